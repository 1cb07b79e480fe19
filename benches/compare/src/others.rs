//! Other crates with the same checks. Where one decides incorrectly, the table says so instead of giving a time.
//!
//! | crate | is measured with |
//! |---|---|
//! | entropy-auth | `validate_authorize_request` over parameters from `form_urlencoded`, clients in a `HashMap`; it leaves parsing, lookup and the answer to its user |
//! | raos | `validate_authorization_request` over a `HashMap` of the parameters, and its answer where it refuses |
//! | oxide-auth | `AuthorizationFlow` with `ClientMap`, on its own simple request |
//! | oxide-auth-axum | the same flow in an axum handler, as its examples have it |

use std::borrow::Cow;
use std::collections::HashMap;
use std::hint::black_box;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use entropy_auth::oauth::server::{AuthorizeRequest, ClientType, RegisteredClient, validate_authorize_request};
use futures::FutureExt;
use oxide_auth::endpoint::{OwnerConsent, Solicitation};
use oxide_auth::frontends::simple::endpoint::{FnSolicitor, Generic, Vacant};
use oxide_auth::frontends::simple::request::{Request as SimpleRequest, Response as SimpleResponse, Status};
use oxide_auth::primitives::authorizer::AuthMap;
use oxide_auth::primitives::generator::RandomGenerator;
use oxide_auth::primitives::registrar::{Client as OxideClient, ClientMap, ExactUrl, RegisteredUrl};
use oxide_auth_axum::{OAuthRequest, OAuthResponse, WebError};
use raos::async_trait;
use raos::authorize::{AuthorizationProvider, AuthorizationRequest, GrantAuthorizationResult};
use raos::common::frontend::{FrontendRequest, FrontendRequestMethod, FrontendResponseExt};
use raos::common::model::{Client as RaosClient, ClientProvider, Grant};
use raos::manager::OAuthManager;
use raos::token::{GrantType, RefreshGrant, Token, TokenProvider};
use tower_oauth_client_validation::Client;

use crate::subjects::{Case, Row, clients, routed};

pub(crate) fn rows(count: usize) -> Vec<Row> {
    let known: Rc<HashMap<String, RegisteredClient>> =
        Rc::new(clients(count).map(|client| (client.id().to_owned(), entropy_client(&client))).collect());
    let manager = Rc::new(raos_manager(count));
    let oxide = Arc::new(Oxide {
        registrar: clients(count).map(|client| oxide_client(&client)).collect(),
        authorizer: Mutex::new(AuthMap::new(RandomGenerator::new(16))),
    });
    let oxide_axum = Router::new().route("/authorize", get(authorize).post(authorize)).with_state(Arc::clone(&oxide));
    vec![
        Row::new("entropy-auth: the decision alone", |case| {
            let known = Rc::clone(&known);
            move || entropy(&known, black_box(case.parameters))
        }),
        Row::new("raos", |case| {
            let manager = Rc::clone(&manager);
            move || raos(&manager, case)
        }),
        Row::new("oxide-auth", |case| {
            let oxide = Arc::clone(&oxide);
            move || oxide.accepts(case)
        }),
        Row::new("axum with oxide-auth-axum", |case| routed(&oxide_axum, case)),
    ]
}

fn redirect_uris(client: &Client) -> impl Iterator<Item = String> + '_ {
    client.redirect_uris().iter().map(|uri| uri.as_str().to_owned())
}

const SCOPES: [&str; 4] = ["openid", "profile", "email", "offline_access"];

fn entropy_client(client: &Client) -> RegisteredClient {
    let builder = RegisteredClient::builder(client.id(), ClientType::Public);
    let builder = redirect_uris(client).fold(builder, |builder, uri| builder.redirect_uri(uri));
    SCOPES.into_iter().fold(builder, |builder, scope| builder.allowed_scope(scope)).build().expect("a legal client")
}

fn entropy(known: &HashMap<String, RegisteredClient>, parameters: &str) -> bool {
    let mut values: [Option<Cow<'_, str>>; 7] = Default::default();
    let names =
        ["response_type", "client_id", "redirect_uri", "scope", "state", "code_challenge", "code_challenge_method"];
    for (name, value) in url::form_urlencoded::parse(parameters.as_bytes()) {
        if let Some(place) = names.iter().position(|known| *known == name) {
            values[place] = Some(value);
        }
    }
    let [response_type, client_id, redirect_uri, scope, state, code_challenge, code_challenge_method] =
        values.each_ref().map(|value| value.as_deref());
    let request = AuthorizeRequest {
        response_type: response_type.unwrap_or_default(),
        client_id: client_id.unwrap_or_default(),
        redirect_uri,
        scope,
        state,
        code_challenge,
        code_challenge_method,
    };
    black_box(validate_authorize_request(&request, known.get(request.client_id))).is_ok()
}

struct RaosClients(HashMap<String, (RaosClient, Vec<String>)>);

#[async_trait]
impl ClientProvider for RaosClients {
    type Error = ();

    async fn get_client_by_id(&self, client_id: &str) -> Result<Option<RaosClient>, ()> {
        Ok(self.0.get(client_id).map(|(client, _)| client.clone()))
    }

    /// Filters, as the trait's documentation advises.
    async fn allow_client_scopes(&self, client: &RaosClient, mut requested: Vec<String>) -> Result<Vec<String>, ()> {
        let (_, allowed) = self.0.get(&client.client_id).ok_or(())?;
        requested.retain(|scope| allowed.contains(scope));
        Ok(requested)
    }

    async fn verify_client_secret(&self, _: &RaosClient, _: &str) -> Result<bool, ()> {
        Err(())
    }
}

/// What comes after the check of the request.
struct Later;

#[async_trait]
impl AuthorizationProvider for Later {
    type OwnerId = ();
    type Extras = ();
    type Error = ();

    async fn authorize_grant(
        &self,
        _: &RaosClient,
        _: &[String],
        _: &mut Option<()>,
    ) -> Result<GrantAuthorizationResult<()>, ()> {
        Err(())
    }

    async fn generate_code_for_grant(&self, _: Grant<()>) -> Result<String, ()> {
        Err(())
    }

    async fn exchange_code_for_grant(&self, _: String) -> Result<Option<Grant<()>>, ()> {
        Err(())
    }
}

#[async_trait]
impl TokenProvider for Later {
    type OwnerId = ();
    type Error = ();

    async fn token(&self, _: &RaosClient, _: GrantType<()>) -> Result<Token, ()> {
        Err(())
    }

    async fn exchange_refresh_token(&self, _: String) -> Result<Option<RefreshGrant<()>>, ()> {
        Err(())
    }
}

type Manager = OAuthManager<(), (), ()>;

fn raos_manager(count: usize) -> Manager {
    let known = clients(count).map(|client| {
        let redirect_uris = redirect_uris(&client).collect();
        let known = RaosClient { client_id: client.id().to_owned(), redirect_uris, confidential: false };
        (client.id().to_owned(), (known, SCOPES.map(str::to_owned).to_vec()))
    });
    OAuthManager::builder()
        .client_provider(RaosClients(known.collect()))
        .authorization_provider(Later)
        .token_provider(Later)
        .build()
}

struct RaosRequest {
    is_post: bool,
    parameters: HashMap<String, String>,
}

impl FrontendRequest for RaosRequest {
    fn request_method(&self) -> FrontendRequestMethod {
        if self.is_post { FrontendRequestMethod::POST } else { FrontendRequestMethod::GET }
    }

    fn header_param(&self, _: &str) -> Option<String> {
        None
    }

    fn query_param(&self, key: &str) -> Option<String> {
        if self.is_post { None } else { self.parameters.get(key).cloned() }
    }

    fn body_param(&self, key: &str) -> Option<String> {
        if self.is_post { self.parameters.get(key).cloned() } else { None }
    }
}

fn raos(manager: &Manager, case: &Case) -> bool {
    let Ok(parameters) = serde_urlencoded::from_str(black_box(case.parameters)) else {
        return false;
    };
    let request = RaosRequest { is_post: case.is_post, parameters };
    let Ok(request) = AuthorizationRequest::try_from(&request as &dyn FrontendRequest) else {
        return false;
    };
    match manager.validate_authorization_request(request).now_or_never() {
        Some(Ok(validated)) => {
            black_box(validated);
            true
        }
        Some(Err(error)) => {
            black_box(error.into_frontend_response());
            false
        }
        None => false,
    }
}

struct Oxide {
    registrar: ClientMap,
    authorizer: Mutex<AuthMap<RandomGenerator>>,
}

fn oxide_client(client: &Client) -> OxideClient {
    let mut uris = redirect_uris(client).map(|uri| RegisteredUrl::Exact(ExactUrl::new(uri).expect("a legal URI")));
    let first = uris.next().expect("a redirect URI");
    let scope = SCOPES.join(" ").parse().expect("a legal scope");
    OxideClient::public(client.id(), first, scope).with_additional_redirect_uris(uris.collect())
}

impl Oxide {
    fn accepts(&self, case: &Case) -> bool {
        let Ok(parameters) = serde_urlencoded::from_str(black_box(case.parameters)) else {
            return false;
        };
        let request = if case.is_post {
            SimpleRequest { urlbody: parameters, ..SimpleRequest::default() }
        } else {
            SimpleRequest { query: parameters, ..SimpleRequest::default() }
        };
        let ask = |_: &mut SimpleRequest, solicitation: Solicitation<'_>| {
            black_box(solicitation.pre_grant());
            OwnerConsent::InProgress(SimpleResponse::default())
        };
        let mut authorizer = self.authorizer.lock().expect("no panic");
        let endpoint = Generic {
            registrar: &self.registrar,
            authorizer: &mut *authorizer,
            issuer: Vacant,
            solicitor: FnSolicitor(ask),
            scopes: Vacant,
            response: Vacant,
        };
        matches!(endpoint.authorization_flow().execute(request), Ok(response) if matches!(response.status, Status::Ok))
    }
}

async fn authorize(State(oxide): State<Arc<Oxide>>, request: OAuthRequest) -> Result<OAuthResponse, WebError> {
    let ask = |_: &mut OAuthRequest, solicitation: Solicitation<'_>| {
        let answer = solicitation.pre_grant().redirect_uri.as_str().len().to_string();
        OwnerConsent::InProgress(OAuthResponse::default().body(&answer))
    };
    let mut authorizer = oxide.authorizer.lock().expect("no panic");
    let endpoint = Generic {
        registrar: &oxide.registrar,
        authorizer: &mut *authorizer,
        issuer: Vacant,
        solicitor: FnSolicitor(ask),
        scopes: Vacant,
        response: Vacant,
    };
    endpoint.authorization_flow().execute(request).map_err(|error| error.pack())
}
