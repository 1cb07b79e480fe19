//! A user agent that follows no redirects and keeps no cookies.

use std::collections::HashMap;
use std::error::Error;

use axum::body::Bytes;
use axum::http::header::{ACCEPT, CONTENT_TYPE, HOST, LOCATION};
use axum::http::{HeaderMap, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use url::{Url, form_urlencoded};

use super::process::BOUND;

pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn header(&self, name: impl axum::http::header::AsHeaderName) -> &str {
        self.headers.get(name).map(|value| value.to_str().expect("it is text")).unwrap_or_default()
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).map_err(|error| format!("{error} in {}", self.body)).expect("JSON")
    }

    /// The parameters that a redirect carries, in the query or in the fragment.
    pub(super) fn redirect(&self) -> HashMap<String, String> {
        let location = Url::parse(self.header(LOCATION)).expect("a redirect");
        let sent = location.fragment().or(location.query()).unwrap_or_default();
        form_urlencoded::parse(sent.as_bytes()).into_owned().collect()
    }

    /// The values of the hidden fields of a form.
    pub(super) fn fields(&self) -> HashMap<String, String> {
        let inputs = self.body.split("<input type=\"hidden\"").skip(1);
        let attribute = |input: &str, name: &str| {
            let (_, rest) = input.split_once(&format!(" {name}=\"")).expect("the attribute is there");
            unescape(rest.split('"').next().unwrap_or_default())
        };
        inputs.map(|input| (attribute(input, "name"), attribute(input, "value"))).collect()
    }
}

pub(super) fn unescape(text: &str) -> String {
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&#39;", "'").replace("&amp;", "&")
}

pub(super) fn form(parameters: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish()
}

pub(super) async fn get(url: &str) -> Answer {
    send(Method::GET, url, &[], String::new()).await
}

/// As a browser asks for a page.
pub(super) async fn browse(url: &str) -> Answer {
    send(Method::GET, url, &[(ACCEPT.as_str(), "text/html,application/xhtml+xml,*/*;q=0.8")], String::new()).await
}

pub(super) async fn post(url: &str, parameters: &[(&str, &str)]) -> Answer {
    post_with(url, &[], parameters).await
}

pub(super) async fn post_with(url: &str, headers: &[(&str, &str)], parameters: &[(&str, &str)]) -> Answer {
    let headers = [headers, &[(CONTENT_TYPE.as_str(), "application/x-www-form-urlencoded")]].concat();
    send(Method::POST, url, &headers, form(parameters)).await
}

pub(super) async fn send(method: Method, url: &str, headers: &[(&str, &str)], body: String) -> Answer {
    try_send(method, url, headers, body).await.expect("a whole answer")
}

/// Fails if the connection ends before the answer is complete.
pub(super) async fn try_send(
    method: Method,
    url: &str,
    headers: &[(&str, &str)],
    body: String,
) -> Result<Answer, Box<dyn Error + Send + Sync>> {
    let exchange = async {
        let uri: Uri = url.parse()?;
        let authority = uri.authority().expect("it has a host").as_str();
        let stream = TcpStream::connect(authority).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        let target = uri.path_and_query().map_or("/", |target| target.as_str());
        let mut request = Request::builder().method(method).uri(target).header(HOST, authority);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::from(body)))?;
        let (parts, body) = sender.send_request(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        connection.abort();
        Ok(Answer { status: parts.status, headers: parts.headers, body: String::from_utf8_lossy(&body).into_owned() })
    };
    tokio::time::timeout(BOUND, exchange).await.expect("the server answers")
}
