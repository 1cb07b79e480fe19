//! The parameters of an authorization request, read in one pass.

use std::fmt;

use triomphe::{Arc, HeaderSlice};
use url::form_urlencoded;

use super::arrival::Arrival;
use super::extensions::{Declared, Extensions};

macro_rules! parameters {
    ($($variant:ident = $name:literal,)+) => {
        /// A parameter that the crate reads (RFC 6749 §4.1.1, RFC 7636, RFC 8707, RFC 9101, OpenID Connect Core).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Parameter {
            $(#[doc = concat!("`", $name, "`")] $variant,)+
        }

        impl Parameter {
            /// Every parameter.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The name in a request.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            #[expect(non_upper_case_globals, reason = "named like the variants")]
            fn from_name(name: &[u8]) -> Option<Self> {
                $(const $variant: &[u8] = $name.as_bytes();)+
                Some(match name {
                    $($variant => Self::$variant,)+
                    _ => return None,
                })
            }

            fn bit(self) -> u16 {
                1 << self as u16
            }
        }
    };
}

parameters! {
    ClientId = "client_id",
    RedirectUri = "redirect_uri",
    ResponseType = "response_type",
    ResponseMode = "response_mode",
    Scope = "scope",
    State = "state",
    Nonce = "nonce",
    CodeChallenge = "code_challenge",
    CodeChallengeMethod = "code_challenge_method",
    Resource = "resource",
    Request = "request",
    RequestUri = "request_uri",
}

const COUNT: usize = Parameter::ALL.len();

/// The length of `code_challenge_method`.
const LONGEST_NAME: usize = 21;

/// The longest request that is decoded on the stack.
const SHORT: usize = 1024;

impl fmt::Display for Parameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a parameter has no usable value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ParameterFault {
    /// It came more than once, even if empty (RFC 6749 §3.1).
    Repeated,
    /// It has a broken `%` escape or is not UTF-8.
    Undecodable,
    /// It contains a control character. Only `state` and `nonce` have this fault; the others have stricter rules.
    ControlCharacter,
}

/// The parameters of an authorization request, decoded from query and body.
///
/// Parsing never fails: faults are kept with their parameter, because where the error goes depends on the client and its
/// redirect URI.
///
/// - A parameter without a value counts as absent (RFC 6749 §3.1), but two copies are two.
/// - Names are decoded before they are compared. Unrecognized parameters are ignored and may repeat. A policy can
///   [declare](crate::PolicyBuilder::parameters) more: [`Validator::parse`](crate::Validator::parse) reads those too.
/// - `resource` may repeat (RFC 8707 §2).
/// - Recognized parameters are either in the query or in the body. A request with some in each is refused: a handler that
///   reads only one of them would see another request than the validator.
///
/// ```
/// use tower_oauth_client_validation::{AuthorizationRequest, Parameter, ParameterFault};
///
/// let request = AuthorizationRequest::parse(b"client_id=a&state=x%20y&scope=", b"");
/// assert_eq!(request.get(Parameter::State), Some("x y"));
/// assert_eq!(request.get(Parameter::Scope), None);
///
/// let request = AuthorizationRequest::parse(b"", b"client_id=a&client_id=");
/// assert_eq!(request.get(Parameter::ClientId), None);
/// assert_eq!(request.fault(Parameter::ClientId), Some(ParameterFault::Repeated));
/// ```
#[derive(Clone)]
pub struct AuthorizationRequest(Arc<HeaderSlice<Index, str>>);

/// Where each value is in the text, which holds the decoded values one after another.
#[derive(Default)]
struct Index {
    spans: [Span; COUNT],
    faults: [Option<ParameterFault>; COUNT],
    resources: Vec<Span>,
    /// `None` where no extension parameters were declared.
    extensions: Option<Box<Extensions>>,
    /// The parameters that were there, a bit each.
    seen: u16,
    /// The parameters with a fault, a bit each.
    faulty: u16,
    is_split: bool,
    /// `None` for parameters from the user agent.
    arrival: Option<Box<Arrival>>,
}

/// Where in the text a value is.
#[derive(Clone, Copy, Default)]
pub(super) struct Span {
    start: u32,
    end: u32,
}

impl Index {
    /// Declared parameters are read in a pass of their own, so that policies without any pay nothing.
    fn read_extensions(&mut self, query: &[u8], body: &[u8], declared: &Declared) {
        let mut extensions = Extensions::new(declared);
        let in_query = extensions.read(query) || names_parameter(query);
        let in_body = extensions.read(body) || names_parameter(body);
        self.is_split = in_query && in_body;
        self.extensions = Some(Box::new(extensions));
    }
}

impl Span {
    fn is_empty(self) -> bool {
        self.start == self.end
    }
}

impl AuthorizationRequest {
    /// Reads `application/x-www-form-urlencoded` parameters from the query (without `?`) and the body.
    ///
    /// Input of 4 GiB or more is read as empty.
    #[must_use]
    pub fn parse(query: &[u8], body: &[u8]) -> Self {
        Self::read(query, body, None, None)
    }

    /// Also reads declared parameters, and notes how the parameters arrived if not from the user agent.
    #[inline]
    pub(super) fn read(query: &[u8], body: &[u8], declared: Option<&Declared>, arrival: Option<Box<Arrival>>) -> Self {
        let length = query.len().saturating_add(body.len());
        let (query, body) = if u32::try_from(length).is_ok() { (query, body) } else { (&[][..], &[][..]) };
        let (mut short, mut long) = ([0; SHORT], Vec::new());
        let is_split = !body.is_empty() && names_parameter(query) && names_parameter(body);
        let length = query.len() + body.len();
        let buffer = short.get_mut(..length).unwrap_or_else(|| {
            long.resize(length, 0);
            &mut long
        });
        buffer[..query.len()].copy_from_slice(query);
        buffer[query.len()..].copy_from_slice(body);
        let mut parser = Parser { buffer, kept: 0, index: Index { is_split, arrival, ..Index::default() } };
        parser.read(0, query.len());
        parser.read(query.len(), length);
        let Parser { buffer, kept, mut index } = parser;
        if let Some(declared) = declared {
            index.read_extensions(query, body, declared);
        }
        let text = std::str::from_utf8(&buffer[..kept]).expect("only UTF-8 values are kept");
        Self(Arc::from_header_and_str(index, text))
    }

    /// The value, if it is usable. For `resource` the first one, see [`AuthorizationRequest::resources`].
    #[must_use]
    pub fn get(&self, parameter: Parameter) -> Option<&str> {
        self.span(parameter).map(|span| self.value(span))
    }

    /// What is wrong with a parameter.
    #[must_use]
    pub fn fault(&self, parameter: Parameter) -> Option<ParameterFault> {
        self.0.header.faults[parameter as usize]
    }

    /// The first parameter with a fault, in the order of [`Parameter::ALL`].
    #[must_use]
    pub fn first_fault(&self) -> Option<(Parameter, ParameterFault)> {
        let parameter = *Parameter::ALL.get(self.0.header.faulty.trailing_zeros() as usize)?;
        Some((parameter, self.fault(parameter)?))
    }

    /// All values of `resource`.
    pub fn resources(&self) -> impl Iterator<Item = &str> {
        self.0.header.resources.iter().map(|span| self.value(*span))
    }

    /// Whether the client pushed the request (RFC 9126).
    #[must_use]
    pub fn is_pushed(&self) -> bool {
        self.arrival().is_some_and(|arrival| arrival.is_pushed)
    }

    /// Whether the parameters come from a request object that the client signed (RFC 9101).
    #[must_use]
    pub fn is_signed(&self) -> bool {
        self.arrival().is_some_and(|arrival| arrival.is_signed)
    }

    /// Writes the request as a query that asks for the same again, so that it can be kept across a login.
    ///
    /// These are the usable parameters, which [`parse`](Self::parse) reads back. A pushed request is written as its
    /// `client_id` and `request_uri`: read back as parameters, it would no longer count once. Let
    /// [`ClientValidationLayer::judge`](crate::ClientValidationLayer::judge) judge it, which finds it again. A signed request
    /// loses its signature: seal it with `RequestSealer` (feature `sealed-requests`) instead.
    ///
    /// ```
    /// use tower_oauth_client_validation::AuthorizationRequest;
    ///
    /// let request = AuthorizationRequest::parse(b"state=x%20y&client_id=a&unknown=1", b"");
    /// assert_eq!(request.to_query(), "client_id=a&state=x+y");
    /// assert!(AuthorizationRequest::parse(request.to_query().as_bytes(), b"") == request);
    /// ```
    #[must_use]
    pub fn to_query(&self) -> String {
        form_urlencoded::Serializer::new(String::new()).extend_pairs(self.pairs_to_repeat()).finish()
    }

    /// What asks for the same again: of a request that counts once, the `request_uri` by which it is found again.
    pub(super) fn pairs_to_repeat(&self) -> impl Iterator<Item = (&str, &str)> {
        let one_time = self.arrival().and_then(|arrival| arrival.one_time.as_ref());
        let reference = one_time.map(|one_time| {
            let client_id = self.get(Parameter::ClientId).unwrap_or_default();
            [Parameter::ClientId, Parameter::RequestUri]
                .map(Parameter::as_str)
                .into_iter()
                .zip([client_id, one_time.request_uri()])
        });
        let parameters = one_time.is_none().then(|| self.pairs());
        reference.into_iter().flatten().chain(parameters.into_iter().flatten())
    }

    /// The usable parameters, however the request came.
    #[cfg(any(feature = "pushed-requests", feature = "sealed-requests"))]
    pub(crate) fn parameters_to_query(&self) -> String {
        form_urlencoded::Serializer::new(String::new()).extend_pairs(self.pairs()).finish()
    }

    /// Whether a parameter was there, usable or not. An empty value counts as absent.
    pub(crate) fn has(&self, parameter: Parameter) -> bool {
        self.get(parameter).is_some() || self.fault(parameter).is_some()
    }

    pub(crate) fn arrival(&self) -> Option<&Arrival> {
        self.0.header.arrival.as_deref()
    }

    /// A parameter that [the policy declares](crate::PolicyBuilder::parameters), if it has a usable value. Only a request
    /// that [`Validator::parse`](crate::Validator::parse) or the layer read has any.
    #[must_use]
    pub fn extension(&self, name: &str) -> Option<&str> {
        self.extensions()?.get(name)
    }

    /// Every parameter with a usable value, in the order of [`Parameter::ALL`], then those that the policy declares.
    /// `resource` comes as often as it was sent.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        let single = Parameter::ALL.iter().filter(|parameter| **parameter != Parameter::Resource);
        let single = single.filter_map(|parameter| Some((parameter.as_str(), self.get(*parameter)?)));
        let resources = self.resources().map(|resource| (Parameter::Resource.as_str(), resource));
        single.chain(resources).chain(self.extensions().into_iter().flat_map(Extensions::iter))
    }

    /// The first declared parameter with a fault.
    pub(super) fn first_extension_fault(&self) -> Option<(&str, ParameterFault)> {
        self.extensions()?.first_fault()
    }

    /// Whether these parameters were looked for.
    pub(super) fn covers(&self, declared: &Declared) -> bool {
        self.extensions().is_some_and(|extensions| extensions.cover(declared))
    }

    fn extensions(&self) -> Option<&Extensions> {
        self.0.header.extensions.as_deref()
    }

    /// Whether query and body both name recognized parameters.
    pub(super) fn is_split(&self) -> bool {
        self.0.header.is_split
    }

    pub(super) fn span(&self, parameter: Parameter) -> Option<Span> {
        let span = self.0.header.spans[parameter as usize];
        let is_usable = self.0.header.faulty & parameter.bit() == 0 && !span.is_empty();
        is_usable.then_some(span)
    }

    pub(super) fn value(&self, span: Span) -> &str {
        &self.0.slice[span.start as usize..span.end as usize]
    }
}

/// Compares the recognized and declared parameters.
impl PartialEq for AuthorizationRequest {
    fn eq(&self, other: &Self) -> bool {
        let same = |parameter: &Parameter| self.get(*parameter) == other.get(*parameter);
        let faults = self.0.header.faults == other.0.header.faults && self.is_split() == other.is_split();
        let extensions = self.extensions() == other.extensions();
        faults && extensions && Parameter::ALL.iter().all(same) && self.resources().eq(other.resources())
    }
}

impl Eq for AuthorizationRequest {}

/// Names only: values must not be logged.
impl fmt::Debug for AuthorizationRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let present = Parameter::ALL.iter().filter(|parameter| self.0.header.seen & parameter.bit() != 0);
        let mut shown = f.debug_tuple("AuthorizationRequest");
        shown.field(&present.collect::<Vec<_>>());
        if let Some(extensions) = self.extensions() {
            shown.field(&extensions.present().collect::<Vec<_>>());
        }
        shown.finish()
    }
}

/// Whether a form names a recognized parameter, with or without a value.
pub(super) fn names_parameter(form: &[u8]) -> bool {
    form.split(|byte| *byte == b'&').any(|pair| read_name(pair).0.is_some())
}

struct Parser<'b> {
    /// The input. The decoded values overwrite what was already read.
    buffer: &'b mut [u8],
    kept: usize,
    index: Index,
}

impl Parser<'_> {
    fn read(&mut self, mut at: usize, end: usize) {
        while at < end {
            let (parameter, name_length) = read_name(&self.buffer[at..end]);
            at += name_length;
            if at < end && self.buffer[at] == b'=' {
                at += 1;
            }
            at = match parameter {
                Some(parameter) => self.take(parameter, at, end),
                None => at + self.buffer[at..end].iter().position(|byte| *byte == b'&').unwrap_or(end - at),
            };
            at += "&".len();
        }
    }

    /// Takes the value that starts here, and returns where it ends.
    fn take(&mut self, parameter: Parameter, at: usize, end: usize) -> usize {
        let start = self.kept;
        let (at, decoded) = self.decode(at, end);
        let fault = decoded.and_then(|()| check_text(parameter, &self.buffer[start..self.kept])).err();
        let Index { spans, faults, resources, seen, faulty, .. } = &mut self.index;
        let is_repeated = *seen & parameter.bit() != 0 && parameter != Parameter::Resource;
        *seen |= parameter.bit();
        if let Some(fault) = if is_repeated { Some(ParameterFault::Repeated) } else { fault } {
            *faulty |= parameter.bit();
            faults[parameter as usize] = Some(fault);
            self.kept = start;
            return at;
        }
        let span = Span { start: offset(start), end: offset(self.kept) };
        if spans[parameter as usize].is_empty() {
            spans[parameter as usize] = span;
        }
        if parameter == Parameter::Resource && !span.is_empty() {
            resources.push(span);
        }
        at
    }

    /// Decodes a value, which never makes it longer. Returns where it ends, even if decoding fails.
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

/// The parameter that is named here, and the length of the encoded name.
fn read_name(input: &[u8]) -> (Option<Parameter>, usize) {
    // No byte of our names is below `>`, so the first one below it is usually the `=`.
    let plain = first_below(b'>', input);
    match input.get(plain) {
        None | Some(b'=' | b'&') => (Parameter::from_name(&input[..plain]), plain),
        Some(_) => {
            let end = input.iter().position(|byte| matches!(byte, b'=' | b'&')).unwrap_or(input.len());
            (recognize_encoded(&input[..end]), end)
        }
    }
}

/// The position of the first byte below an ASCII character, or the length if there is none.
///
/// Eight bytes at a time and inlined: most values are short, and a call would cost more than the search.
#[inline]
fn first_below(limit: u8, input: &[u8]) -> usize {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const HIGH_BITS: u64 = ONES << 7;
    let mut rest = input;
    while let Some((bytes, after)) = rest.split_first_chunk() {
        let word = u64::from_le_bytes(*bytes);
        // The high bit of each byte below the limit. Only the lowest bit that is set is reliable.
        let below = word.wrapping_sub(ONES * u64::from(limit)) & !word & HIGH_BITS;
        if below != 0 {
            return input.len() - rest.len() + below.trailing_zeros() as usize / 8;
        }
        rest = after;
    }
    let in_rest = rest.iter().position(|byte| *byte < limit).unwrap_or(rest.len());
    input.len() - rest.len() + in_rest
}

/// The byte that the first two hexadecimal digits stand for.
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
    // Clients send any text without control characters, although RFC 6749 appendix A.5 allows less.
    let is_opaque = matches!(parameter, Parameter::State | Parameter::Nonce);
    // Branch-free: faster than returning early on so few bytes.
    if is_opaque && decoded.iter().fold(false, |any, byte| any | byte.is_ascii_control()) {
        return Err(ParameterFault::ControlCharacter);
    }
    Ok(decoded)
}

fn offset(length: usize) -> u32 {
    u32::try_from(length).expect("decoding never lengthens the input, which is below 4 GiB")
}

/// The parameter whose name is percent-encoded here.
fn recognize_encoded(name: &[u8]) -> Option<Parameter> {
    // A broken escape stays as it is, and no recognized name contains `%`.
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
