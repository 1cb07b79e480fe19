//! Only what was sealed is opened, as it was sealed.
//!
//! Parts: the query of a request, to whom the seal is bound, and a change of the seal (text to replace, and its
//! replacement).
#![no_main]

use std::sync::LazyLock;

use futures::FutureExt;
use libfuzzer_sys::{Corpus, fuzz_target};
use tower_oauth_client_validation::{
    AuthorizationRequest, Client, MemoryRegistry, OpenErrorKind, RegistrySource, RequestSealer, SealKeys, Validator,
};
use tower_oauth_client_validation_fuzz::texts;

static CLIENTS: LazyLock<MemoryRegistry> = LazyLock::new(|| {
    let client = Client::builder("app").confidential().redirect_uri("https://app.example/cb").scope("*");
    MemoryRegistry::from_clients([client.build().expect("legal")])
});

static SEALER: LazyLock<RequestSealer> = LazyLock::new(|| RequestSealer::new(SealKeys::new([1; 32])));

fuzz_target!(|input: &[u8]| -> Corpus {
    let Some([query, session, from, to]) = texts(input) else {
        return Corpus::Reject;
    };
    let validator = Validator::default();
    let open = |sealer: &RequestSealer, seal: &str| {
        let opened = sealer.open(seal, &*CLIENTS, &validator).now_or_never().expect("nothing waits");
        opened.map_err(|error| error.kind())
    };
    assert_eq!(open(&SEALER, query).err(), Some(OpenErrorKind::Invalid), "any text opens");

    let client = CLIENTS.find_client("app").now_or_never().expect("nothing waits").expect("it answers");
    let Ok(validated) = validator.validate(AuthorizationRequest::parse(query.as_bytes(), b""), client) else {
        return Corpus::Reject;
    };
    let sealer = SEALER.clone().bound_to(session);
    let seal = sealer.seal(&validated).expect("it seals");
    assert!(seal.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')));
    let opened = open(&sealer, &seal).expect("it was just sealed");
    assert!(opened.request() == validated.request());
    assert_eq!(opened.scope(), validated.scope());
    assert_eq!(opened.redirect_uri(), validated.redirect_uri());

    let changed = if from.is_empty() { format!("{seal}{to}") } else { seal.replacen(from, to, 1) };
    if changed != seal {
        assert_eq!(open(&sealer, &changed).err(), Some(OpenErrorKind::Invalid), "{changed}");
    }
    let other = SEALER.clone().bound_to(format!("{session}x"));
    assert_eq!(open(&other, &seal).err(), Some(OpenErrorKind::Invalid));
    Corpus::Keep
});
