//! Whatever `request` holds, a request is accepted only where the client signed exactly these parameters for this server.
//!
//! Parts: how it is signed (words), the header, the claims, and what is done to the result (text to replace, and its
//! replacement). `{now}` in the claims stands for the time.
#![no_main]

use std::sync::LazyLock;
use std::time::SystemTime;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::Bytes;
use futures::FutureExt;
use http::Request;
use jsonwebtoken::{Algorithm, EncodingKey};
use libfuzzer_sys::{Corpus, fuzz_target};
use serde_json::{Value, json};
use tower_oauth_client_validation::{Client, ClientValidationLayer, MemoryRegistry, Policy, SignedRequests, Verdict};
use tower_oauth_client_validation_fuzz::texts;

const ISSUER: &str = "https://login.example";

/// RFC 8037 appendix A.1, as PKCS #8.
static KEY: LazyLock<EncodingKey> = LazyLock::new(|| {
    let private = BASE64_URL_SAFE_NO_PAD.decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A").expect("base64");
    let prefix = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    EncodingKey::from_ed_der(&[&prefix[..], &private].concat())
});

static LAYER: LazyLock<ClientValidationLayer<MemoryRegistry>> = LazyLock::new(|| {
    let client = Client::from_metadata(json!({
        "client_id": "app",
        "redirect_uris": ["https://app.example/cb"],
        "scope": "read",
        "jwks": { "keys": [{
            "kty": "OKP", "crv": "Ed25519", "kid": "1", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
        }] },
    }));
    ClientValidationLayer::new(MemoryRegistry::from_clients([client.expect("legal")]))
        .policy(Policy::rfc9700().issuer(ISSUER).build().expect("legal"))
        .signed_requests(SignedRequests::builder(ISSUER).build().expect("legal"))
});

fuzz_target!(|input: &[u8]| -> Corpus {
    let Some([words, header, claims, from, to]) = texts(input) else {
        return Corpus::Reject;
    };
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("later").as_secs();
    let claims = claims.replace("{now}", &(now + 60).to_string());
    let part = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
    let message = format!("{}.{}", part(header), part(&claims));
    let is_signed = words.split(' ').any(|word| word == "sign");
    let signature = if is_signed {
        jsonwebtoken::crypto::sign(message.as_bytes(), &KEY, Algorithm::EdDSA).expect("it signs")
    } else {
        part(words)
    };
    let signed = format!("{message}.{signature}");
    let object = if from.is_empty() { signed.clone() } else { signed.replacen(from, to, 1) };
    let Ok(request) = Request::get(format!("/authorize?client_id=app&response_type=code&request={object}")).body(())
    else {
        return Corpus::Reject;
    };
    let (parts, ()) = request.into_parts();
    let verdict = LAYER.judge(&parts, Bytes::new()).now_or_never().expect("nothing waits");
    let Verdict::Accepted(validated) = verdict else {
        return Corpus::Keep;
    };
    if !validated.request().is_signed() {
        // What is after a `&` may end the object: `request=&…` is none.
        assert!(object.is_empty() || object.starts_with('&'), "{object}");
        return Corpus::Keep;
    }
    assert!(is_signed, "accepted without the client's signature");
    let header: Value = serde_json::from_str(header).expect("the header was read");
    let claims: Value = serde_json::from_str(&claims).expect("the claims were read");
    assert_eq!(header["alg"], "EdDSA");
    for name in ["crit", "jwk", "jku", "x5c", "x5u"] {
        assert!(header.get(name).is_none(), "{name}");
    }
    assert!(claims["iss"] == "app" && claims["client_id"] == "app");
    assert!(claims["aud"] == ISSUER || claims["aud"] == json!([ISSUER]));
    assert!(claims.get("request").is_none() && claims.get("request_uri").is_none());
    let expiry = claims["exp"].as_f64().expect("required");
    assert!(expiry > now as f64 - 61.0 && expiry < now as f64 + 3662.0);
    for name in ["nbf", "iat"] {
        assert!(claims.get(name).is_none_or(|start| start.as_f64().is_some_and(|start| start < now as f64 + 61.0)));
    }
    assert_eq!(validated.redirect_uri(), "https://app.example/cb");
    if let Some(state) = claims["state"].as_str() {
        assert_eq!(validated.state().unwrap_or_default(), state);
    }
    Corpus::Keep
});
