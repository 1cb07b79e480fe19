//! Extension parameters: those that a policy declares, beside the ones that are always read.

use std::sync::Arc;

use super::request::{Parameter, ParameterFault};
use crate::http::form::decode;

/// The names that a policy declares.
pub(super) type Declared = Arc<[Box<str>]>;

/// What a request has for each declared name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Extensions {
    declared: Declared,
    /// One for each name.
    values: Box<[Extension]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Extension {
    Absent,
    /// Present without a value, which counts as absent unless it is repeated.
    Empty,
    Value(Box<str>),
    Faulty(ParameterFault),
}

impl Extensions {
    pub(super) fn new(declared: &Declared) -> Self {
        Self { declared: Arc::clone(declared), values: vec![Extension::Absent; declared.len()].into() }
    }

    /// Reads a form, and returns whether it names a declared parameter, with or without a value.
    pub(super) fn read(&mut self, form: &[u8]) -> bool {
        let mut names_one = false;
        for pair in form.split(|byte| *byte == b'&') {
            let end = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
            let Some(index) = decode(&pair[..end]).ok().and_then(|name| self.index(&name)) else {
                continue;
            };
            names_one = true;
            let value = &mut self.values[index];
            *value = match value {
                Extension::Absent => match decode(pair.get(end + 1..).unwrap_or_default()) {
                    Ok(text) if text.is_empty() => Extension::Empty,
                    Ok(text) => Extension::Value(text.into()),
                    Err(_) => Extension::Faulty(ParameterFault::Undecodable),
                },
                _ => Extension::Faulty(ParameterFault::Repeated),
            };
        }
        names_one
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        match &self.values[self.index(name)?] {
            Extension::Value(text) => Some(text),
            Extension::Absent | Extension::Empty | Extension::Faulty(_) => None,
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.declared.iter().filter_map(|name| Some((&**name, self.get(name)?)))
    }

    /// The first fault, in the order in which the names were declared.
    pub(super) fn first_fault(&self) -> Option<(&str, ParameterFault)> {
        self.declared.iter().zip(&self.values).find_map(|(name, value)| match value {
            Extension::Faulty(fault) => Some((&**name, *fault)),
            Extension::Absent | Extension::Empty | Extension::Value(_) => None,
        })
    }

    /// Whether all of these names were looked for.
    pub(super) fn cover(&self, declared: &Declared) -> bool {
        Arc::ptr_eq(&self.declared, declared) || declared.iter().all(|name| self.index(name).is_some())
    }

    /// The names that were present, with or without a usable value.
    pub(super) fn present(&self) -> impl Iterator<Item = &str> {
        let both = self.declared.iter().zip(&self.values);
        both.filter(|(_, value)| **value != Extension::Absent).map(|(name, _)| &**name)
    }

    fn index(&self, name: &str) -> Option<usize> {
        self.declared.iter().position(|declared| **declared == *name)
    }
}

/// Whether a policy may declare a parameter of this name.
pub(super) fn can_be_declared(name: &str) -> bool {
    !name.is_empty() && Parameter::ALL.iter().all(|parameter| parameter.as_str() != name)
}
