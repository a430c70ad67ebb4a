//! A connection that paths are written to.

use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use super::{Place, payload, runner::Failure};
use crate::{
    config::{PluginConfig, Separator},
    model::Arrived,
};

/// Connects, writes and closes. What the other side does with it is not heard of.
pub(super) async fn send(config: &PluginConfig, place: &Place, to: &str, separator: Separator, batch: &[Arrived]) -> Result<(), Failure> {
    let bytes = match separator {
        Separator::Nul => payload::list(batch, place, config.absolute, 0),
        Separator::Newline => payload::list(batch, place, config.absolute, b'\n'),
        Separator::Connection => {
            batch.first().map(|arrived| payload::path(arrived, place, config.absolute).into_owned()).unwrap_or_default()
        }
    };
    let failed = |error: std::io::Error| Failure::new(format!("{to}: {error}"));
    let mut stream = TcpStream::connect(to).await.map_err(failed)?;
    stream.write_all(&bytes).await.map_err(failed)?;
    stream.shutdown().await.map_err(failed)
}
