//! Which metadata is accepted from dynamic clients.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::io;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::origin::ClientOrigin;
use super::redirect_uri::RedirectUri;
use super::weight::members_size;

/// The default of [`DynamicClientRules::max_metadata_bytes`]: 8 KiB.
const DEFAULT_MAX_METADATA_BYTES: usize = 8 * 1024;
const DEFAULT_MAX_REDIRECT_URIS: usize = 32;
const DEFAULT_MAX_LIST_MEMBERS: usize = 32;
const DEFAULT_MAX_LANGUAGE_VARIANTS: usize = 16;

/// Schemes without a period that widely used clients register.
const DEFAULT_SCHEMES: [&str; 7] = ["claude", "cursor", "raycast", "vscode", "vscode-insiders", "warp", "windsurf"];

/// The bytes of memory that a byte of metadata may take. Honest key sets take 4.
const MAX_MEMORY_FACTOR: usize = 8;

type Check = dyn Fn(ClientOrigin, &Map<String, Value>) -> Result<(), DynamicClientError> + Send + Sync;

/// The rules for the metadata of dynamic clients: those that register themselves and those that publish a metadata
/// document.
///
/// | rule | default |
/// |---|---|
/// | size, serialized | 8 KiB |
/// | redirect URIs | 32 |
/// | members of any other list | 32 |
/// | language-tagged variants of one member (`client_name#de`) | 16 |
/// | text | no control characters, no characters that hide or reorder other text |
/// | schemes of `redirect_uris` and `post_logout_redirect_uris` | `https`, `http` on a loopback host, private-use schemes with a period (RFC 8252 §8.4), and `claude`, `cursor`, `raycast`, `vscode`, `vscode-insiders`, `warp`, `windsurf` |
///
/// Redirect URIs must also follow the rules of [`RedirectUri`], and have no wildcard port.
///
/// ```
/// use serde_json::json;
/// use tower_oauth_client_validation::{ClientOrigin, DynamicClientRules};
///
/// let rules = DynamicClientRules::new();
/// let judge = |redirect_uri: &str| {
///     let metadata = json!({ "redirect_uris": [redirect_uri] });
///     rules.judge(ClientOrigin::Registered, metadata.as_object().unwrap())
/// };
/// assert!(judge("com.example.app:/callback").is_ok());
/// assert!(judge("cursor://anysphere.cursor-mcp/oauth/callback").is_ok());
/// let error = judge("launcher://run").unwrap_err();
/// assert!(error.is_redirect_uri());
/// assert_eq!(error.to_string(), "redirect_uris[0]: this scheme is not allowed here");
/// ```
#[derive(Clone)]
#[must_use]
pub struct DynamicClientRules {
    max_metadata_bytes: usize,
    max_redirect_uris: usize,
    max_list_members: usize,
    max_language_variants: usize,
    schemes: BTreeSet<String>,
    check: Option<Arc<Check>>,
}

const TOO_MANY: &str = "the list has too many members";

impl DynamicClientRules {
    /// The defaults above.
    pub fn new() -> Self {
        Self {
            max_metadata_bytes: DEFAULT_MAX_METADATA_BYTES,
            max_redirect_uris: DEFAULT_MAX_REDIRECT_URIS,
            max_list_members: DEFAULT_MAX_LIST_MEMBERS,
            max_language_variants: DEFAULT_MAX_LANGUAGE_VARIANTS,
            schemes: DEFAULT_SCHEMES.map(str::to_owned).into(),
            check: None,
        }
    }

    /// Sets how many bytes the metadata may have, serialized as JSON (default: 8 KiB). It may take 8 times as much
    /// memory.
    pub fn max_metadata_bytes(mut self, bytes: usize) -> Self {
        self.max_metadata_bytes = bytes;
        self
    }

    /// Sets how many redirect URIs a client may have (default: 32).
    pub fn max_redirect_uris(mut self, uris: usize) -> Self {
        self.max_redirect_uris = uris;
        self
    }

    /// Sets how many members any other list may have (default: 32).
    pub fn max_list_members(mut self, members: usize) -> Self {
        self.max_list_members = members;
        self
    }

    /// Sets how many language-tagged variants of one member there may be (default: 16).
    pub fn max_language_variants(mut self, variants: usize) -> Self {
        self.max_language_variants = variants;
        self
    }

    /// Sets the schemes without a period that redirect URIs may have (default: `claude`, `cursor`, `raycast`,
    /// `vscode`, `vscode-insiders`, `warp`, `windsurf`). Case does not matter.
    ///
    /// Each scheme opens an application on the user's device with text that a stranger chose. Add those whose
    /// applications expect it.
    pub fn private_use_schemes<T: AsRef<str>>(mut self, schemes: impl IntoIterator<Item = T>) -> Self {
        self.schemes = schemes.into_iter().map(|scheme| scheme.as_ref().to_ascii_lowercase()).collect();
        self
    }

    /// Adds a rule of your own: which hosts are allowed, or what ties redirect URIs to the client. It runs after the
    /// rules above have accepted the metadata.
    ///
    /// It is called with the origin of the client and its metadata. The metadata of a document has the document's URL as
    /// `client_id`; that of a registration has no `client_id` yet.
    ///
    /// ```
    /// use tower_oauth_client_validation::{ClientOrigin, DynamicClientError, DynamicClientRules};
    /// use url::{Origin, Url};
    ///
    /// let origin = |uri: &str| Url::parse(uri).ok().map(|uri| uri.origin()).filter(Origin::is_tuple);
    /// let rules = DynamicClientRules::new().check(move |_origin, metadata| {
    ///     let home = metadata.get("client_uri").and_then(|uri| origin(uri.as_str()?));
    ///     let uris = metadata.get("redirect_uris").and_then(|uris| uris.as_array()).into_iter().flatten();
    ///     for uri in uris.filter_map(|uri| uri.as_str()).filter(|uri| uri.starts_with("https:")) {
    ///         if origin(uri) != home {
    ///             return Err(DynamicClientError::new("redirect_uris", "must have the origin of client_uri"));
    ///         }
    ///     }
    ///     Ok(())
    /// });
    ///
    /// let metadata = serde_json::json!({
    ///     "client_uri": "https://app.example/about",
    ///     "redirect_uris": ["https://evil.example/cb"],
    /// });
    /// let error = rules.judge(ClientOrigin::Registered, metadata.as_object().unwrap()).unwrap_err();
    /// assert_eq!(error.to_string(), "redirect_uris: must have the origin of client_uri");
    /// ```
    pub fn check<F>(mut self, check: F) -> Self
    where
        F: Fn(ClientOrigin, &Map<String, Value>) -> Result<(), DynamicClientError> + Send + Sync + 'static,
    {
        self.check = Some(Arc::new(check));
        self
    }

    /// Judges client metadata.
    ///
    /// # Errors
    ///
    /// Names the member that breaks a rule.
    pub fn judge(&self, origin: ClientOrigin, metadata: &Map<String, Value>) -> Result<(), DynamicClientError> {
        for (name, value) in metadata {
            let broken = |reason| DynamicClientError::new(printable(name), reason);
            if !is_plain_text(name) {
                return Err(broken("the name must not hold control or invisible characters"));
            }
            self.judge_value(name == "redirect_uris", value)
                .map_err(|reason| DynamicClientError { is_bound: reason == TOO_MANY, ..broken(reason) })?;
        }
        self.judge_size(metadata)?;
        self.judge_language_variants(metadata)?;
        for member in ["redirect_uris", "post_logout_redirect_uris"] {
            self.judge_redirect_uris(member, metadata)?;
        }
        self.check.as_ref().map_or(Ok(()), |check| check(origin, metadata))
    }

    fn judge_value(&self, is_redirect_uris: bool, value: &Value) -> Result<(), &'static str> {
        match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
            Value::String(text) if is_plain_text(text) => Ok(()),
            Value::String(_) => Err("must not hold control or invisible characters"),
            Value::Array(values) => {
                let max = if is_redirect_uris { self.max_redirect_uris } else { self.max_list_members };
                if values.len() > max {
                    return Err(TOO_MANY);
                }
                values.iter().try_for_each(|value| self.judge_value(false, value))
            }
            Value::Object(members) => {
                if !members.keys().all(|name| is_plain_text(name)) {
                    return Err("must not hold control or invisible characters");
                }
                members.values().try_for_each(|value| self.judge_value(false, value))
            }
        }
    }

    fn judge_language_variants(&self, metadata: &Map<String, Value>) -> Result<(), DynamicClientError> {
        let mut variants: HashMap<&str, usize> = HashMap::new();
        for (plain, _) in metadata.keys().filter_map(|name| name.split_once('#')) {
            let count = variants.entry(plain).or_default();
            *count += 1;
            if *count > self.max_language_variants {
                return Err(DynamicClientError::new(plain, "there are too many language-tagged variants"));
            }
        }
        Ok(())
    }

    /// Counts memory too: an empty string in a list takes 16 times its 3 bytes of JSON.
    fn judge_size(&self, metadata: &Map<String, Value>) -> Result<(), DynamicClientError> {
        let sizes = metadata.iter().map(|(name, value)| (name, serialized_size(name) + serialized_size(value) + 2));
        let size: usize = sizes.clone().map(|(_, size)| size).sum();
        let largest = sizes.max_by_key(|(_, size)| *size);
        let memory = self.max_metadata_bytes.saturating_mul(MAX_MEMORY_FACTOR);
        match largest {
            Some((name, _)) if size + 1 > self.max_metadata_bytes || members_size(metadata) > memory => {
                Err(DynamicClientError { is_bound: true, ..DynamicClientError::new(name, "the metadata is too large") })
            }
            _ => Ok(()),
        }
    }

    fn judge_redirect_uris(&self, member: &str, metadata: &Map<String, Value>) -> Result<(), DynamicClientError> {
        let uris = match metadata.get(member) {
            None | Some(Value::Null) => return Ok(()),
            Some(Value::Array(uris)) => uris,
            Some(_) => return Err(DynamicClientError::new(member, "must be an array of strings")),
        };
        for (index, uri) in uris.iter().enumerate() {
            let judged = uri.as_str().ok_or("must be a string".into()).and_then(|uri| self.judge_redirect_uri(uri));
            judged.map_err(|reason| DynamicClientError::new(member, reason).at(index))?;
        }
        Ok(())
    }

    fn judge_redirect_uri(&self, uri: &str) -> Result<(), Cow<'static, str>> {
        let uri = RedirectUri::parse(uri).map_err(|error| error.to_string())?;
        if uri.has_wildcard_port() {
            return Err("a wildcard port is not allowed here; a loopback URI matches with any port anyway".into());
        }
        let scheme = uri.parts().scheme.to_ascii_lowercase();
        let is_allowed = matches!(&*scheme, "https" | "http") || scheme.contains('.') || self.schemes.contains(&scheme);
        if is_allowed { Ok(()) } else { Err("this scheme is not allowed here".into()) }
    }
}

impl Default for DynamicClientRules {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for DynamicClientRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DynamicClientRules")
            .field("max_metadata_bytes", &self.max_metadata_bytes)
            .field("max_redirect_uris", &self.max_redirect_uris)
            .field("max_list_members", &self.max_list_members)
            .field("max_language_variants", &self.max_language_variants)
            .field("private_use_schemes", &self.schemes)
            .field("check", &self.check.is_some())
            .finish()
    }
}

/// The metadata of a dynamic client is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DynamicClientError {
    member: String,
    index: Option<usize>,
    reason: Cow<'static, str>,
    /// The metadata is over a bound, rather than wrong.
    is_bound: bool,
}

impl DynamicClientError {
    /// `member` breaks a rule, and `reason` says which.
    pub fn new(member: impl Into<String>, reason: impl Into<Cow<'static, str>>) -> Self {
        Self { member: member.into(), index: None, reason: reason.into(), is_bound: false }
    }

    fn at(self, index: usize) -> Self {
        Self { index: Some(index), ..self }
    }

    /// The metadata member that breaks a rule.
    #[must_use]
    pub fn member(&self) -> &str {
        &self.member
    }

    /// The rule.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Whether a registration is refused with `invalid_redirect_uri` rather than `invalid_client_metadata`
    /// (RFC 7591 §3.2.2). Too many or too long redirect URIs are invalid metadata.
    #[must_use]
    pub fn is_redirect_uri(&self) -> bool {
        self.member == "redirect_uris" && !self.is_bound
    }
}

impl fmt::Display for DynamicClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.member)?;
        if let Some(index) = self.index {
            write!(f, "[{index}]")?;
        }
        write!(f, ": {}", self.reason)
    }
}

impl std::error::Error for DynamicClientError {}

/// Whether the text holds no control character, no soft hyphen, no line or paragraph separator and none of the
/// characters that change the direction of text (Unicode `Bidi_Control`).
fn is_plain_text(text: &str) -> bool {
    !text.chars().any(|c| {
        c.is_control()
            || matches!(
                c,
                '\u{AD}' | '\u{61C}' | '\u{200E}' | '\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}'
            )
    })
}

/// A member's name for a message, without what [`is_plain_text`] forbids.
fn printable(name: &str) -> String {
    name.chars().map(|c| if is_plain_text(c.encode_utf8(&mut [0; 4])) { c } else { '\u{FFFD}' }).take(64).collect()
}

fn serialized_size(value: &(impl serde::Serialize + ?Sized)) -> usize {
    struct Count(usize);

    impl io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    let mut count = Count(0);
    match serde_json::to_writer(&mut count, value) {
        Ok(()) => count.0,
        Err(_) => usize::MAX / 2,
    }
}
