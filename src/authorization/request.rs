//! The parameters of an authorization request, read in one pass.

use std::fmt;
use std::ops::Range;

use memchr::{memchr, memchr2};

/// A parameter that the crate reads (RFC 6749 §4.1.1, RFC 7636, RFC 8707, RFC 9101, OpenID Connect Core).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Parameter {
    /// `client_id`
    ClientId,
    /// `redirect_uri`
    RedirectUri,
    /// `response_type`
    ResponseType,
    /// `response_mode`
    ResponseMode,
    /// `scope`
    Scope,
    /// `state`
    State,
    /// `nonce`
    Nonce,
    /// `code_challenge`
    CodeChallenge,
    /// `code_challenge_method`
    CodeChallengeMethod,
    /// `resource`, the only one that may repeat
    Resource,
    /// `request`
    Request,
    /// `request_uri`
    RequestUri,
}

const COUNT: usize = Parameter::ALL.len();

/// `code_challenge_method`; a longer name is not one of ours.
const LONGEST_NAME: usize = 21;

impl Parameter {
    /// Every parameter.
    pub const ALL: [Self; 12] = [
        Self::ClientId,
        Self::RedirectUri,
        Self::ResponseType,
        Self::ResponseMode,
        Self::Scope,
        Self::State,
        Self::Nonce,
        Self::CodeChallenge,
        Self::CodeChallengeMethod,
        Self::Resource,
        Self::Request,
        Self::RequestUri,
    ];

    /// The name in a request.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClientId => "client_id",
            Self::RedirectUri => "redirect_uri",
            Self::ResponseType => "response_type",
            Self::ResponseMode => "response_mode",
            Self::Scope => "scope",
            Self::State => "state",
            Self::Nonce => "nonce",
            Self::CodeChallenge => "code_challenge",
            Self::CodeChallengeMethod => "code_challenge_method",
            Self::Resource => "resource",
            Self::Request => "request",
            Self::RequestUri => "request_uri",
        }
    }

    fn from_name(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"client_id" => Self::ClientId,
            b"redirect_uri" => Self::RedirectUri,
            b"response_type" => Self::ResponseType,
            b"response_mode" => Self::ResponseMode,
            b"scope" => Self::Scope,
            b"state" => Self::State,
            b"nonce" => Self::Nonce,
            b"code_challenge" => Self::CodeChallenge,
            b"code_challenge_method" => Self::CodeChallengeMethod,
            b"resource" => Self::Resource,
            b"request" => Self::Request,
            b"request_uri" => Self::RequestUri,
            _ => return None,
        })
    }
}

impl fmt::Display for Parameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a parameter has no usable value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ParameterFault {
    /// It came more than once (RFC 6749 §3.1), be it empty.
    Repeated,
    /// It has a broken `%` escape or is not UTF-8.
    Undecodable,
    /// It holds a control character (`state` and `nonce` only; the others have narrower rules of their own).
    ControlCharacter,
}

/// The parameters of an authorization request, decoded from query and body.
///
/// Parsing never fails: what is wrong with a parameter is remembered with it, since the answer depends on
/// what is known by then about the client and its redirect URI.
///
/// - A parameter without a value counts as left out (RFC 6749 §3.1), but two copies are two.
/// - Names are decoded before they are compared. Unrecognised parameters are ignored and may repeat.
/// - `resource` may repeat (RFC 8707 §2).
///
/// ```
/// use tower_oauth_client_validation::{AuthorizationRequest, Parameter, ParameterFault};
///
/// let request = AuthorizationRequest::parse(b"client_id=a&state=x%20y&scope=", b"");
/// assert_eq!(request.get(Parameter::State), Some("x y"));
/// assert_eq!(request.get(Parameter::Scope), None);
///
/// let request = AuthorizationRequest::parse(b"client_id=a", b"client_id=");
/// assert_eq!(request.get(Parameter::ClientId), None);
/// assert_eq!(request.fault(Parameter::ClientId), Some(ParameterFault::Repeated));
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct AuthorizationRequest {
    /// The decoded values, end to end.
    text: String,
    slots: [Slot; COUNT],
    resources: Vec<Range<usize>>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Slot {
    start: usize,
    end: usize,
    seen: bool,
    fault: Option<ParameterFault>,
}

impl AuthorizationRequest {
    /// Reads `application/x-www-form-urlencoded` parameters of the query and of the body, both without `?`.
    #[must_use]
    pub fn parse(query: &[u8], body: &[u8]) -> Self {
        let mut parser = Parser {
            decoded: Vec::with_capacity(query.len() + body.len()),
            slots: [Slot::default(); COUNT],
            resources: Vec::new(),
        };
        parser.read(query);
        parser.read(body);
        Self {
            text: String::from_utf8(parser.decoded).expect("each value was kept only when it is UTF-8"),
            slots: parser.slots,
            resources: parser.resources,
        }
    }

    /// The value, where there is a usable one. For `resource` the first one, see
    /// [`AuthorizationRequest::resources`].
    #[must_use]
    pub fn get(&self, parameter: Parameter) -> Option<&str> {
        self.range(parameter).map(|range| &self.text[range])
    }

    /// What is wrong with it.
    #[must_use]
    pub fn fault(&self, parameter: Parameter) -> Option<ParameterFault> {
        self.slots[parameter as usize].fault
    }

    /// All values of `resource`.
    pub fn resources(&self) -> impl Iterator<Item = &str> {
        self.resources.iter().map(|range| &self.text[range.clone()])
    }

    pub(super) fn range(&self, parameter: Parameter) -> Option<Range<usize>> {
        let slot = &self.slots[parameter as usize];
        (slot.fault.is_none() && slot.start < slot.end).then_some(slot.start..slot.end)
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn into_text(self) -> String {
        self.text
    }

    /// Keeps a value that did not come with the request.
    pub(super) fn append(&mut self, value: &str) -> Range<usize> {
        let start = self.text.len();
        self.text.push_str(value);
        start..self.text.len()
    }
}

/// Names only: values are not for logs.
impl fmt::Debug for AuthorizationRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let present = Parameter::ALL.into_iter().filter(|parameter| self.slots[*parameter as usize].seen);
        f.debug_tuple("AuthorizationRequest").field(&present.collect::<Vec<_>>()).finish()
    }
}

struct Parser {
    decoded: Vec<u8>,
    slots: [Slot; COUNT],
    resources: Vec<Range<usize>>,
}

impl Parser {
    fn read(&mut self, mut input: &[u8]) {
        while !input.is_empty() {
            let end = memchr(b'&', input).unwrap_or(input.len());
            let pair = &input[..end];
            input = input.get(end + 1..).unwrap_or_default();
            let (name, value) = match memchr(b'=', pair) {
                Some(equals) => (&pair[..equals], &pair[equals + 1..]),
                None => (pair, &[][..]),
            };
            if let Some(parameter) = recognise(name) {
                self.take(parameter, value);
            }
        }
    }

    fn take(&mut self, parameter: Parameter, value: &[u8]) {
        let start = self.decoded.len();
        let fault = self.decode(parameter, value).err();
        if fault.is_some() {
            self.decoded.truncate(start);
        }
        let range = start..self.decoded.len();
        let slot = &mut self.slots[parameter as usize];
        if parameter == Parameter::Resource {
            if !range.is_empty() {
                self.resources.push(range.clone());
            }
            slot.fault = slot.fault.or(fault);
        } else if slot.seen {
            slot.fault = Some(ParameterFault::Repeated);
        } else {
            slot.fault = fault;
        }
        if !slot.seen || slot.start == slot.end {
            (slot.start, slot.end) = (range.start, range.end);
        }
        slot.seen = true;
    }

    fn decode(&mut self, parameter: Parameter, mut value: &[u8]) -> Result<(), ParameterFault> {
        let start = self.decoded.len();
        while let Some(at) = memchr2(b'%', b'+', value) {
            self.decoded.extend_from_slice(&value[..at]);
            if value[at] == b'+' {
                self.decoded.push(b' ');
                value = &value[at + 1..];
            } else {
                let escape = value.get(at + 1..at + 3).and_then(unescape);
                self.decoded.push(escape.ok_or(ParameterFault::Undecodable)?);
                value = &value[at + 3..];
            }
        }
        self.decoded.extend_from_slice(value);
        let decoded = &self.decoded[start..];
        if !decoded.is_ascii() && std::str::from_utf8(decoded).is_err() {
            return Err(ParameterFault::Undecodable);
        }
        // RFC 6749 appendix A.5 allows less; any text but control characters is what clients send.
        if matches!(parameter, Parameter::State | Parameter::Nonce) && decoded.iter().any(u8::is_ascii_control) {
            return Err(ParameterFault::ControlCharacter);
        }
        Ok(())
    }
}

fn recognise(name: &[u8]) -> Option<Parameter> {
    if memchr2(b'%', b'+', name).is_none() {
        return Parameter::from_name(name);
    }
    // A broken escape stays as it is, and no recognised name holds a `%`.
    let mut decoded = [0; LONGEST_NAME];
    let mut length = 0;
    let mut bytes = percent_encoding::percent_decode(name);
    for (slot, byte) in decoded.iter_mut().zip(&mut bytes) {
        *slot = byte;
        length += 1;
    }
    if bytes.next().is_some() {
        return None;
    }
    Parameter::from_name(&decoded[..length])
}

fn unescape(hex: &[u8]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    match hex {
        &[high, low] => Some(digit(high)? << 4 | digit(low)?),
        _ => None,
    }
}
