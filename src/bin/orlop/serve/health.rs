//! Whether the server lives, and whether its stores can be used.

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use http::{Response, StatusCode};
use orlop::Store;
use orlop::server::{Body, Layout};
use orlop::transfer::archive::Archive;

use super::front::answer;

/// A disk that takes longer than this to answer is none to rely on.
const PATIENCE: Duration = Duration::from_secs(5);

/// Looks at the layouts. Clones are one.
#[derive(Clone)]
pub(super) struct Health {
    /// With whether each is meant to be read only.
    layouts: Arc<[(Layout, bool)]>,
    archives: Arc<[Archive]>,
    /// Whoever looks; a look that never ends keeps one thread, however often somebody asks.
    looking: Arc<tokio::sync::Mutex<()>>,
}

impl Health {
    pub(super) fn new(layouts: Arc<[(Layout, bool)]>, archives: Arc<[Archive]>) -> Self {
        Self { layouts, archives, looking: Arc::default() }
    }

    /// The answer at `/healthz` (the process answers) and `/readyz` (the stores can be used). None for other paths.
    pub(super) async fn answer(&self, path: &str) -> Option<Response<Body>> {
        match path {
            "/healthz" => Some(answer(StatusCode::OK, "text/plain", "ok\n")),
            "/readyz" => {
                let why = self.trouble().await;
                let status = if why.is_some() { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
                Some(answer(status, "text/plain", why.unwrap_or("ok\n")))
            }
            _ => None,
        }
    }

    /// Why the stores cannot be used. What exactly is wrong is for the log, not for whoever can reach the address.
    async fn trouble(&self) -> Option<&'static str> {
        let (layouts, archives) = (Arc::clone(&self.layouts), Arc::clone(&self.archives));
        let looking = Arc::clone(&self.looking);
        let look = async move {
            let turn = looking.lock_owned().await;
            let look = move || {
                let usable = layouts.iter().all(|(layout, read_only)| usable(&layout.store(), *read_only))
                    && archives.iter().all(readable);
                drop(turn);
                usable
            };
            tokio::task::spawn_blocking(look).await
        };
        match tokio::time::timeout(PATIENCE, look).await {
            Ok(Ok(true)) => None,
            Ok(_) => Some("a store cannot be used\n"),
            Err(_) => Some("a store does not answer\n"),
        }
    }
}

/// Whether the first content of an archive can still be read, if there is one.
fn readable(archive: &Archive) -> bool {
    let Some((digest, size)) = archive.contents().next() else { return true };
    let mut byte = [0];
    let read = archive.content(&digest, 0).map(|found| found.map(|mut reader| reader.read(&mut byte)));
    matches!(read, Ok(Some(Ok(read))) if read == 1 || size == 0)
}

fn usable(store: &Store, read_only: bool) -> bool {
    (read_only || store.check_writable().is_ok()) && store.repositories(None, 1).is_ok()
}
