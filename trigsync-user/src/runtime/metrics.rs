//! The metrics, over HTTP: only where the configuration names an address, and nothing but `GET /metrics`.

use std::{convert::Infallible, net::SocketAddr, time::Duration};

use http_body_util::Full;
use hyper::{
    Method, Request as HttpRequest, Response as HttpResponse, StatusCode,
    body::{Bytes, Incoming},
    header::{ALLOW, CONTENT_TYPE},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, mpsc, oneshot},
};

use crate::{
    control::{Call, Request, Response},
    observe::{METRICS_TYPE, metrics},
};

/// Connections at once: more than one scraper has, and few enough that nobody can use up our descriptors.
const CONNECTIONS: usize = 16;

/// How long a client may take to ask.
const PATIENCE: Duration = Duration::from_secs(10);

/// Listens, and answers with the daemon's own status, which is asked for through `calls`.
pub(super) async fn serve(address: SocketAddr, calls: mpsc::Sender<Call>) -> std::io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    tracing::info!("metrics: http://{}/metrics", listener.local_addr()?);
    tokio::spawn(async move {
        let room = std::sync::Arc::new(Semaphore::new(CONNECTIONS));
        while let Ok(permit) = room.clone().acquire_owned().await {
            let connection = match listener.accept().await {
                Ok((connection, _)) => connection,
                Err(error) => {
                    // Out of descriptors, mostly. The next one may find some.
                    tracing::debug!("metrics: {error}");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    continue;
                }
            };
            let calls = calls.clone();
            tokio::spawn(async move {
                let answer = service_fn(|request| answer(request, calls.clone()));
                let mut http = http1::Builder::new();
                http.timer(TokioTimer::new()).header_read_timeout(PATIENCE);
                if let Err(error) = http.serve_connection(TokioIo::new(connection), answer).await {
                    tracing::debug!("metrics: {error}");
                }
                drop(permit);
            });
        }
    });
    Ok(())
}

async fn answer(request: HttpRequest<Incoming>, calls: mpsc::Sender<Call>) -> Result<HttpResponse<Full<Bytes>>, Infallible> {
    let plain = |status: StatusCode, text: &'static str| {
        let mut response = HttpResponse::new(Full::from(text));
        *response.status_mut() = status;
        response
    };
    Ok(match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/metrics") => match status(&calls).await.and_then(|status| metrics(status).ok()) {
            Some(text) => {
                let mut response = HttpResponse::new(Full::from(text));
                response.headers_mut().insert(CONTENT_TYPE, METRICS_TYPE.parse().expect("the type is plain text"));
                response
            }
            None => plain(StatusCode::SERVICE_UNAVAILABLE, "the daemon is ending\n"),
        },
        (_, "/metrics") => {
            let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "GET it\n");
            response.headers_mut().insert(ALLOW, "GET, HEAD".parse().expect("the methods are plain text"));
            response
        }
        _ => plain(StatusCode::NOT_FOUND, "the metrics are at /metrics\n"),
    })
}

async fn status(calls: &mpsc::Sender<Call>) -> Option<crate::observe::Status> {
    let (answer, answered) = oneshot::channel();
    calls.send(Call { request: Request::Status, answer }).await.ok()?;
    match answered.await.ok()? {
        Response::Status { status } => Some(*status),
        _ => None,
    }
}
