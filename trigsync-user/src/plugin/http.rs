//! Requests over HTTP and HTTPS.
//!
//! - Any 2xx is success. What asks for another attempt (408, 425, 429, 5xx) and what never reached a server is tried again, anything else is not;
//!   no redirection is followed.
//! - Certificates are checked against those that the machine trusts.
//! - No reason names a URL or a header: either may hold the secret.

use std::{error::Error as _, path::Path};

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{CONTENT_TYPE, HeaderValue, USER_AGENT},
};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::TokioExecutor,
};

use super::{Place, payload, runner::Failure};
use crate::{
    config::{HttpRequest, Piece, Placeholder, PluginConfig, Template, UrlRule},
    model::Arrived,
};

/// Bytes of an answer that are read, so that the connection can be used again.
const ANSWER: usize = 64 << 10;

/// Sends requests of one plugin.
pub(super) enum Client {
    Plain(legacy::Client<HttpConnector, Full<Bytes>>),
    Tls(legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>),
    /// The machine trusts nobody.
    Broken(String),
}

impl Client {
    /// One for the address of an action.
    pub fn new(address: &str) -> Self {
        let builder = legacy::Client::builder(TokioExecutor::new());
        if !address.starts_with("https:") {
            return Self::Plain(builder.build_http());
        }
        match HttpsConnectorBuilder::new().with_native_roots() {
            Ok(connector) => Self::Tls(builder.build(connector.https_only().enable_http1().build())),
            Err(error) => Self::Broken(format!("no certificates to check servers with: {error} (install ca-certificates)")),
        }
    }

    /// One request.
    pub async fn send(
        &self,
        config: &PluginConfig,
        place: &Place,
        request: &HttpRequest,
        rule: Option<&UrlRule>,
        batch: &[Arrived],
    ) -> Result<(), Failure> {
        let url = |rule| batch.iter().map(move |arrived| payload::url(arrived, place, config.absolute, rule));
        let urls: Vec<_> = rule.into_iter().flat_map(url).collect();
        let secret = match &request.secret_file {
            Some(file) => secret(file).await?,
            None => Vec::new(),
        };
        let filling = Filling { config, place, batch, urls: &urls, secret: &secret };
        let response = match self {
            Self::Plain(client) => client.request(filling.request(request)?).await,
            Self::Tls(client) => client.request(filling.request(request)?).await,
            Self::Broken(reason) => return Err(Failure::new(reason.clone())),
        };
        judge(response.map_err(|error| Failure::new(chain(&error)))?).await
    }
}

async fn secret(file: &Path) -> Result<Vec<u8>, Failure> {
    let path = file.to_owned();
    let read = tokio::task::spawn_blocking(move || std::fs::read(path)).await.map_err(std::io::Error::other).flatten();
    let mut secret = read.map_err(|error| Failure::new(format!("{}: {error}", file.display())))?;
    while secret.ends_with(b"\n") || secret.ends_with(b"\r") {
        secret.pop();
    }
    Ok(secret)
}

async fn judge(response: Response<Incoming>) -> Result<(), Failure> {
    let status = response.status();
    // Whether all of it comes matters to nobody.
    let body = Limited::new(response.into_body(), ANSWER).collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    if status.is_success() {
        return Ok(());
    }
    let asks_again = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_EARLY, StatusCode::TOO_MANY_REQUESTS].contains(&status);
    let said = String::from_utf8_lossy(&body).trim().lines().next().map(|line| format!(": {line}")).unwrap_or_default();
    Err(Failure { reason: format!("the server answered {status}{said}"), is_final: !asks_again && !status.is_server_error() })
}

/// What an error comes from stands behind it.
fn chain(error: &legacy::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// What stands for the placeholders.
struct Filling<'a> {
    config: &'a PluginConfig,
    place: &'a Place,
    batch: &'a [Arrived],
    urls: &'a [String],
    secret: &'a [u8],
}

impl Filling<'_> {
    fn request(&self, request: &HttpRequest) -> Result<Request<Full<Bytes>>, Failure> {
        let wrong = |what: &str| Failure { reason: format!("{what} (look at what is filled in, and at secret_file)"), is_final: true };
        let url = match &request.url {
            Some(url) => self.fill(url, true),
            None => self.urls.first().cloned().unwrap_or_default().into_bytes(),
        };
        let body = request.body.as_ref().map(|body| self.fill(body, false));
        let has_type = request.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(CONTENT_TYPE.as_str()));
        let is_json = request.body.as_ref().is_some_and(|body| body.asks_for(Placeholder::Json) || body.asks_for(Placeholder::Urls));
        let mut builder = Request::builder().method(request.method.as_str()).uri(&url[..]);
        builder = builder.header(USER_AGENT, concat!("trigsync/", env!("CARGO_PKG_VERSION")));
        if is_json && !has_type {
            builder = builder.header(CONTENT_TYPE, "application/json");
        }
        for (name, value) in &request.headers {
            let mut value =
                HeaderValue::from_bytes(&self.fill(value, false)).map_err(|_| wrong(&format!("{name} is no header's value")))?;
            value.set_sensitive(true);
            builder = builder.header(name.as_str(), value);
        }
        builder.body(Full::from(body.unwrap_or_default())).map_err(|_| wrong("this makes no request"))
    }

    fn fill(&self, template: &Template, in_url: bool) -> Vec<u8> {
        let mut filled = Vec::new();
        for piece in template.pieces() {
            match piece {
                Piece::Text(text) => filled.extend_from_slice(text.as_bytes()),
                Piece::Hole(hole) => filled.extend(self.value(*hole, in_url)),
            }
        }
        filled
    }

    fn value(&self, hole: Placeholder, in_url: bool) -> Vec<u8> {
        let absolute = self.config.absolute;
        match hole {
            Placeholder::Path => {
                self.batch.first().map(|arrived| payload::encoded(arrived, self.place, absolute)).unwrap_or_default().into_bytes()
            }
            Placeholder::Json => payload::json(self.batch, self.place, absolute, self.config.after.as_deref()),
            Placeholder::Url => payload::value(self.urls.first().map(String::as_bytes).unwrap_or_default()).into_bytes(),
            // They are ASCII without quotes.
            Placeholder::Urls => serde_json::to_vec(self.urls).unwrap_or_default(),
            Placeholder::Secret if in_url => payload::value(self.secret).into_bytes(),
            Placeholder::Secret => self.secret.to_vec(),
        }
    }
}
