//! The parameters of an authorization request, read in one pass.

use std::fmt;

use triomphe::{Arc, HeaderSlice};

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

/// Up to here, a request is decoded on the stack.
const SHORT: usize = 1024;

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

    fn bit(self) -> u16 {
        1 << self as u16
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
#[derive(Clone)]
pub struct AuthorizationRequest(Arc<HeaderSlice<Index, str>>);

/// Where each value is in the text, which has the decoded values end to end.
#[derive(Default)]
struct Index {
    spans: [Span; COUNT],
    faults: [Option<ParameterFault>; COUNT],
    resources: Vec<Span>,
    seen: u16,
}

/// Where in the text a value is.
#[derive(Clone, Copy, Default)]
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
        let (mut short, mut long) = ([0; SHORT], Vec::new());
        let length = query.len() + body.len();
        let buffer = short.get_mut(..length).unwrap_or_else(|| {
            long.resize(length, 0);
            &mut long
        });
        buffer[..query.len()].copy_from_slice(query);
        buffer[query.len()..].copy_from_slice(body);
        let mut parser = Parser { buffer, kept: 0, index: Index::default() };
        parser.read(0, query.len());
        parser.read(query.len(), length);
        let Parser { buffer, kept, index } = parser;
        let text = std::str::from_utf8(&buffer[..kept]).expect("each value was kept only when it is UTF-8");
        Self(Arc::from_header_and_str(index, text))
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
        self.0.header.faults[parameter as usize]
    }

    /// The first parameter that something is wrong with.
    #[must_use]
    pub fn first_fault(&self) -> Option<(Parameter, ParameterFault)> {
        Parameter::ALL.iter().find_map(|parameter| Some((*parameter, self.fault(*parameter)?)))
    }

    /// All values of `resource`.
    pub fn resources(&self) -> impl Iterator<Item = &str> {
        self.0.header.resources.iter().map(|span| self.value(*span))
    }

    pub(super) fn span(&self, parameter: Parameter) -> Option<Span> {
        let span = self.0.header.spans[parameter as usize];
        (self.fault(parameter).is_none() && !span.is_empty()).then_some(span)
    }

    pub(super) fn value(&self, span: Span) -> &str {
        &self.0.slice[span.start as usize..span.end as usize]
    }
}

/// The same parameters; what is ignored makes no difference.
impl PartialEq for AuthorizationRequest {
    fn eq(&self, other: &Self) -> bool {
        let same = |parameter: &Parameter| self.get(*parameter) == other.get(*parameter);
        let faults = self.0.header.faults == other.0.header.faults;
        faults && Parameter::ALL.iter().all(same) && self.resources().eq(other.resources())
    }
}

impl Eq for AuthorizationRequest {}

/// Names only: values are not for logs.
impl fmt::Debug for AuthorizationRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let present = Parameter::ALL.iter().filter(|parameter| self.0.header.seen & parameter.bit() != 0);
        f.debug_tuple("AuthorizationRequest").field(&present.collect::<Vec<_>>()).finish()
    }
}

struct Parser<'b> {
    /// What is read, and in front of it, as far as it was read, what is kept of it.
    buffer: &'b mut [u8],
    kept: usize,
    index: Index,
}

impl Parser<'_> {
    fn read(&mut self, mut at: usize, end: usize) {
        while at < end {
            let (parameter, name_length) = read_name(&self.buffer[at..end]);
            at += name_length;
            // What follows a `=` is the value; a name without one has an empty value.
            if at < end && self.buffer[at] == b'=' {
                at += 1;
            }
            at = match parameter {
                Some(parameter) => self.take(parameter, at, end),
                None => at + position(b'&', &self.buffer[at..end]),
            };
            // The `&`.
            at += 1;
        }
    }

    /// Takes the value from here up to `&`, and returns where that is.
    fn take(&mut self, parameter: Parameter, at: usize, end: usize) -> usize {
        let start = self.kept;
        let (at, decoded) = self.decode(at, end);
        let fault = decoded.and_then(|()| check_text(parameter, &self.buffer[start..self.kept])).err();
        if fault.is_some() {
            self.kept = start;
        }
        let span = Span { start: offset(start), end: offset(self.kept) };
        let Index { spans, faults, resources, seen } = &mut self.index;
        let (span_of, fault_of) = (&mut spans[parameter as usize], &mut faults[parameter as usize]);
        if parameter == Parameter::Resource {
            if !span.is_empty() {
                resources.push(span);
            }
            *fault_of = fault_of.or(fault);
        } else if *seen & parameter.bit() != 0 {
            *fault_of = Some(ParameterFault::Repeated);
        } else {
            *fault_of = fault;
        }
        if span_of.is_empty() {
            *span_of = span;
        }
        *seen |= parameter.bit();
        at
    }

    /// Decodes a value, which never makes it longer. Where it ends is returned even where decoding fails.
    fn decode(&mut self, mut at: usize, end: usize) -> (usize, Result<(), ParameterFault>) {
        let mut result = Ok(());
        loop {
            let plain = first_below(b',', &self.buffer[at..end]);
            if plain > 0 {
                self.buffer.copy_within(at..at + plain, self.kept);
                at += plain;
                self.kept += plain;
            }
            let rest = &self.buffer[at..end];
            let (byte, width) = match rest.first() {
                None | Some(b'&') => return (at, result),
                Some(b'+') => (b' ', 1),
                Some(b'%') => unescape(&rest[1..]).map_or_else(
                    || {
                        result = Err(ParameterFault::Undecodable);
                        (b'%', 1)
                    },
                    |byte| (byte, 3),
                ),
                Some(other) => (*other, 1),
            };
            self.buffer[self.kept] = byte;
            at += width;
            self.kept += 1;
        }
    }
}

/// The parameter that is named here, and the length of the name as it stands.
fn read_name(input: &[u8]) -> (Option<Parameter>, usize) {
    // No byte of our names is below `>`, so that the first one below is mostly the `=`.
    let plain = first_below(b'>', input);
    match input.get(plain) {
        None | Some(b'=' | b'&') => (Parameter::from_name(&input[..plain]), plain),
        Some(_) => {
            let end = input.iter().position(|byte| matches!(byte, b'=' | b'&')).unwrap_or(input.len());
            (recognise_encoded(&input[..end]), end)
        }
    }
}

fn position(needle: u8, input: &[u8]) -> usize {
    memchr::memchr(needle, input).unwrap_or(input.len())
}

/// Where the first byte below an ASCII character is, or the length where there is none.
///
/// Eight bytes at a time and inlined: most values are twenty bytes long, where a call costs more than a search.
#[inline]
fn first_below(limit: u8, input: &[u8]) -> usize {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const HIGH_BITS: u64 = ONES << 7;
    let mut rest = input;
    while let Some((bytes, after)) = rest.split_first_chunk() {
        let word = u64::from_le_bytes(*bytes);
        // The high bit of each byte below the limit; only the lowest bit that is set is sure to be right.
        let below = word.wrapping_sub(ONES * u64::from(limit)) & !word & HIGH_BITS;
        if below != 0 {
            return input.len() - rest.len() + below.trailing_zeros() as usize / 8;
        }
        rest = after;
    }
    let in_rest = rest.iter().position(|byte| *byte < limit).unwrap_or(rest.len());
    input.len() - rest.len() + in_rest
}

/// The byte of the two hexadecimal digits that the input begins with.
fn unescape(input: &[u8]) -> Option<u8> {
    let &[high, low] = input.first_chunk()?;
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    };
    Some(digit(high)? * 16 + digit(low)?)
}

fn check_text(parameter: Parameter, decoded: &[u8]) -> Result<&[u8], ParameterFault> {
    if !decoded.is_ascii() && std::str::from_utf8(decoded).is_err() {
        return Err(ParameterFault::Undecodable);
    }
    // RFC 6749 appendix A.5 allows less; any text but control characters is what clients send.
    let is_opaque = matches!(parameter, Parameter::State | Parameter::Nonce);
    // Without a way out in the middle, which is faster for so few bytes.
    if is_opaque && decoded.iter().fold(false, |any, byte| any | byte.is_ascii_control()) {
        return Err(ParameterFault::ControlCharacter);
    }
    Ok(decoded)
}

fn offset(length: usize) -> u32 {
    u32::try_from(length).expect("decoding never lengthens, and longer input is not read")
}

/// `None` too for a name without escapes.
fn recognise_encoded(name: &[u8]) -> Option<Parameter> {
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
