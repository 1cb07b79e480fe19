//! The parameters of a form that a client sent.

use std::fmt;
use std::sync::Arc;

use crate::http::form::{self, Undecodable};

/// Parameters that may repeat: `resource` (RFC 8707 §2), `audience` (RFC 8693 §2.1).
const REPEATABLE: [&str; 2] = ["resource", "audience"];

/// The parameters of a form, in their order and decoded. Apart from `resource` and `audience`, none repeats
/// (RFC 6749 §3.2).
///
/// A parameter without a value counts as left out. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct FormParameters(Arc<[(Box<str>, Box<str>)]>);

/// Why a form was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FormFault {
    Undecodable,
    Repeated,
}

impl From<Undecodable> for FormFault {
    fn from(Undecodable: Undecodable) -> Self {
        Self::Undecodable
    }
}

impl FormParameters {
    pub(super) fn parse(form: &[u8]) -> Result<Self, FormFault> {
        let pairs: Vec<_> = form::pairs(form).collect::<Result<_, _>>()?;
        let mut names: Vec<&str> = pairs.iter().map(|(name, _)| &**name).collect();
        names.retain(|name| !REPEATABLE.contains(name));
        names.sort_unstable();
        // Two copies are two, even when one is empty: the inner service might read the other one.
        if names.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(FormFault::Repeated);
        }
        let given = pairs.iter().filter(|(_, value)| !value.is_empty());
        Ok(Self(given.map(|(name, value)| ((&**name).into(), (&**value).into())).collect()))
    }

    /// The value of a parameter; the first one where it repeats.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// All values of a parameter.
    pub fn get_all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.iter().filter(move |(known, _)| *known == name).map(|(_, value)| value)
    }

    /// Names and values, in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }
}

/// Names only: values hold secrets, codes and tokens.
impl fmt::Debug for FormParameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|(name, _)| name)).finish()
    }
}
