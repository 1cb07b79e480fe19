//! The parameters of an authorization request, read in one pass.

use std::fmt;

use memchr::{memchr, memchr2, memchr3};

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

const COUNT: usize = Parameter::RequestUri as usize + 1;

/// `code_challenge_method`; a longer name is not one of ours.
const LONGEST_NAME: usize = 21;

impl Parameter {
    /// Every parameter.
    pub const ALL: &'static [Self] = &[
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
    resources: Vec<Span>,
    any_fault: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Slot {
    span: Span,
    seen: bool,
    fault: Option<ParameterFault>,
}

/// Where in the text a value is. 32 bits keep requests small while they are moved about.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Span {
    start: u32,
    end: u32,
}

impl Span {
    fn is_empty(self) -> bool {
        self.start == self.end
    }
}

impl AuthorizationRequest {
    /// Reads `application/x-www-form-urlencoded` parameters of the query and of the body, both without `?`.
    ///
    /// Of 4 GiB or more nothing is read.
    #[must_use]
    pub fn parse(query: &[u8], body: &[u8]) -> Self {
        let length = query.len().saturating_add(body.len());
        let (query, body) = if u32::try_from(length).is_ok() { (query, body) } else { (&[][..], &[][..]) };
        let mut parser = Parser {
            decoded: Vec::with_capacity(query.len() + body.len()),
            slots: [Slot::default(); COUNT],
            resources: Vec::new(),
            any_fault: false,
        };
        parser.read(query);
        parser.read(body);
        // What was ignored is not kept for as long as the request is.
        if parser.decoded.capacity() > 2 * parser.decoded.len() + 1024 {
            parser.decoded.shrink_to_fit();
        }
        Self {
            text: String::from_utf8(parser.decoded).expect("each value was kept only when it is UTF-8"),
            slots: parser.slots,
            resources: parser.resources,
            any_fault: parser.any_fault,
        }
    }

    /// The value, where there is a usable one. For `resource` the first one, see
    /// [`AuthorizationRequest::resources`].
    #[must_use]
    pub fn get(&self, parameter: Parameter) -> Option<&str> {
        self.span(parameter).map(|span| self.value(span))
    }

    /// What is wrong with it.
    #[must_use]
    pub fn fault(&self, parameter: Parameter) -> Option<ParameterFault> {
        self.slots[parameter as usize].fault
    }

    /// The first parameter that something is wrong with.
    #[must_use]
    pub fn first_fault(&self) -> Option<(Parameter, ParameterFault)> {
        if !self.any_fault {
            return None;
        }
        Parameter::ALL.iter().find_map(|parameter| Some((*parameter, self.fault(*parameter)?)))
    }

    /// All values of `resource`.
    pub fn resources(&self) -> impl Iterator<Item = &str> {
        self.resources.iter().map(|span| self.value(*span))
    }

    pub(super) fn span(&self, parameter: Parameter) -> Option<Span> {
        let slot = &self.slots[parameter as usize];
        (slot.fault.is_none() && !slot.span.is_empty()).then_some(slot.span)
    }

    pub(super) fn value(&self, span: Span) -> &str {
        &self.text[span.start as usize..span.end as usize]
    }
}

/// Names only: values are not for logs.
impl fmt::Debug for AuthorizationRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let present = Parameter::ALL.iter().filter(|parameter| self.slots[**parameter as usize].seen);
        f.debug_tuple("AuthorizationRequest").field(&present.collect::<Vec<_>>()).finish()
    }
}

struct Parser {
    decoded: Vec<u8>,
    slots: [Slot; COUNT],
    resources: Vec<Span>,
    any_fault: bool,
}

impl Parser {
    fn read(&mut self, mut input: &[u8]) {
        while !input.is_empty() {
            let name_end = memchr2(b'=', b'&', input).unwrap_or(input.len());
            let (name, rest) = input.split_at(name_end);
            // What follows a `=` is the value; a name without one has an empty value.
            let value = rest.strip_prefix(b"=").unwrap_or_default();
            let after_value = match recognise(name) {
                Some(parameter) => self.take(parameter, value),
                None => skip_value(value),
            };
            input = if rest.first() == Some(&b'=') { after_value } else { rest.get(1..).unwrap_or_default() };
        }
    }

    /// Takes the value up to `&`, and returns what follows.
    fn take<'i>(&mut self, parameter: Parameter, input: &'i [u8]) -> &'i [u8] {
        let start = self.decoded.len();
        let (rest, decoded) = self.decode(input);
        let fault = decoded.and_then(|()| check_text(parameter, &self.decoded[start..])).err();
        if fault.is_some() {
            self.decoded.truncate(start);
        }
        let span = Span { start: offset(start), end: offset(self.decoded.len()) };
        let slot = &mut self.slots[parameter as usize];
        if parameter == Parameter::Resource {
            if !span.is_empty() {
                self.resources.push(span);
            }
            slot.fault = slot.fault.or(fault);
        } else if slot.seen {
            slot.fault = Some(ParameterFault::Repeated);
        } else {
            slot.fault = fault;
        }
        if slot.span.is_empty() {
            slot.span = span;
        }
        slot.seen = true;
        self.any_fault |= slot.fault.is_some();
        rest
    }

    /// Decodes up to `&`; what follows it is returned even where decoding fails.
    fn decode<'i>(&mut self, mut input: &'i [u8]) -> (&'i [u8], Result<(), ParameterFault>) {
        while let Some(at) = memchr3(b'&', b'%', b'+', input) {
            self.decoded.extend_from_slice(&input[..at]);
            let rest = &input[at + 1..];
            match input[at] {
                b'&' => return (rest, Ok(())),
                b'+' => {
                    self.decoded.push(b' ');
                    input = rest;
                }
                _ => {
                    let Some((byte, rest)) = unescape(rest) else {
                        return (skip_value(rest), Err(ParameterFault::Undecodable));
                    };
                    self.decoded.push(byte);
                    input = rest;
                }
            }
        }
        self.decoded.extend_from_slice(input);
        (&[], Ok(()))
    }
}

/// What follows the next `&`.
fn skip_value(input: &[u8]) -> &[u8] {
    memchr(b'&', input).map_or(&[], |end| &input[end + 1..])
}

fn check_text(parameter: Parameter, decoded: &[u8]) -> Result<(), ParameterFault> {
    if !decoded.is_ascii() && std::str::from_utf8(decoded).is_err() {
        return Err(ParameterFault::Undecodable);
    }
    // RFC 6749 appendix A.5 allows less; any text but control characters is what clients send.
    if matches!(parameter, Parameter::State | Parameter::Nonce) && decoded.iter().any(u8::is_ascii_control) {
        return Err(ParameterFault::ControlCharacter);
    }
    Ok(())
}

fn offset(length: usize) -> u32 {
    u32::try_from(length).expect("decoding never lengthens, and longer input is not read")
}

fn recognise(name: &[u8]) -> Option<Parameter> {
    if let Some(parameter) = Parameter::from_name(name) {
        return Some(parameter);
    }
    if !name.contains(&b'%') {
        return None;
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

/// The byte of the two hexadecimal digits that the input begins with, and what follows them.
fn unescape(input: &[u8]) -> Option<(u8, &[u8])> {
    let (&[high, low], rest) = input.split_first_chunk()?;
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    };
    Some((digit(high)? << 4 | digit(low)?, rest))
}
