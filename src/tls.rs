//! TLS 1.3 by rustls, where no proxy terminates it. Certificate and key are two PEM files, checked once a minute, so
//! that a renewed certificate needs no restart.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::version::TLS13;
use tokio_rustls::rustls::{self, ServerConfig};
use tokio_rustls::server::TlsStream;

use crate::secret_file;

/// Timeout of the handshake.
const HANDSHAKE_WAIT: Duration = Duration::from_secs(10);
const LOOK_INTERVAL: Duration = Duration::from_secs(60);

/// Paths of certificate and key.
#[derive(Clone, Debug)]
pub struct Files {
    /// The certificate, followed by its intermediates.
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// Why the files cannot be used. No variant contains key material.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("{0} cannot be read: {1}")]
    Unreadable(PathBuf, std::io::Error),
    #[error("{0} has no certificate in PEM")]
    NoCertificate(PathBuf),
    #[error("{0} has no private key in PEM")]
    NoKey(PathBuf),
    #[error("the key is not that of the certificate")]
    OtherKey,
    #[error("{0}")]
    Unusable(rustls::Error),
}

/// TLS acceptor. Cheap to clone.
#[derive(Clone)]
pub struct Tls {
    acceptor: TlsAcceptor,
    files: Arc<Files>,
    current: Arc<Current>,
}

/// The certificate for new connections.
#[derive(Debug)]
struct Current(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl Tls {
    pub fn new(files: Files) -> Result<Self, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let current = Arc::new(Current(RwLock::new(read(&files, &provider)?)));
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .map_err(TlsError::Unusable)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::<Current>::clone(&current));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Tls { acceptor: TlsAcceptor::from(Arc::new(config)), files: Arc::new(files), current })
    }

    /// Performs the handshake; `None` where it fails or times out.
    pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S) -> Option<TlsStream<S>> {
        self.accept_within(HANDSHAKE_WAIT, stream).await
    }

    async fn accept_within<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        wait: Duration,
        stream: S,
    ) -> Option<TlsStream<S>> {
        match timeout(wait, self.acceptor.accept(stream)).await {
            Ok(Ok(stream)) => return Some(stream),
            Ok(Err(error)) => tracing::debug!(%error, "connection not encrypted"),
            Err(_) => tracing::debug!("connection not encrypted in time"),
        }
        None
    }

    /// Loads the current files; returns whether they changed. Files that cannot be used change nothing.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let new = read(&self.files, self.acceptor.config().crypto_provider())?;
        let mut current = self.current.0.write().unwrap_or_else(PoisonError::into_inner);
        let has_changed = current.cert != new.cert;
        *current = new;
        Ok(has_changed)
    }

    /// Reloads when the files have changed, until dropped.
    pub async fn watch(self) {
        loop {
            tokio::time::sleep(LOOK_INTERVAL).await;
            let tls = self.clone();
            match tokio::task::spawn_blocking(move || tls.reload()).await {
                Ok(Ok(false)) => {}
                Ok(Ok(true)) => tracing::info!("the certificate was changed"),
                Ok(Err(error)) => tracing::warn!(%error, "the certificate stays as it was"),
                Err(error) => tracing::error!(%error, "the certificate stays as it was"),
            }
        }
    }
}

fn read(files: &Files, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>, TlsError> {
    let Files { certificate, key } = files;
    let unreadable = |path: &Path, error| TlsError::Unreadable(path.to_owned(), error);
    let chain = std::fs::read(certificate).map_err(|error| unreadable(certificate, error))?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&chain).collect();
    let chain = chain.ok().filter(|chain| !chain.is_empty());
    let chain = chain.ok_or_else(|| TlsError::NoCertificate(certificate.clone()))?;
    let pem = secret_file::read(key).map_err(|error| unreadable(key, error))?;
    let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|_| TlsError::NoKey(key.clone()))?;
    let certified = CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => TlsError::OtherKey,
        error => TlsError::Unusable(error),
    })?;
    Ok(Arc::new(certified))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(folder: &Path) -> Files {
        let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let files = Files { certificate: folder.join("cert.pem"), key: folder.join("key.pem") };
        secret_file::write(&files.certificate, &certified.cert.pem()).expect("written");
        secret_file::write(&files.key, &certified.signing_key.serialize_pem()).expect("written");
        files
    }

    #[test]
    fn what_cannot_be_used_is_told() {
        let folders = [tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder")];
        let [good, other] = [0, 1].map(|n| files(folders[n].path()));
        let told = |files: Files| Tls::new(files).err().expect("refused").to_string();
        let with = |certificate: &Path, key: &Path| Files { certificate: certificate.into(), key: key.into() };
        let missing = folders[0].path().join("none.pem");
        assert!(Tls::new(good.clone()).is_ok());
        assert!(told(with(&missing, &good.key)).contains("none.pem cannot be read"));
        assert!(told(with(&good.key, &good.key)).ends_with("key.pem has no certificate in PEM"));
        assert!(told(with(&good.certificate, &good.certificate)).ends_with("cert.pem has no private key in PEM"));
        assert_eq!(told(with(&good.certificate, &other.key)), "the key is not that of the certificate");
    }

    #[test]
    fn half_a_renewal_changes_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let tls = Tls::new(files(folder.path())).expect("good");
        assert!(!tls.reload().expect("good"));
        let old_key = std::fs::read(&tls.files.key).expect("read");
        files(folder.path());
        let new_key = std::fs::read(&tls.files.key).expect("read");
        std::fs::write(&tls.files.key, old_key).expect("written");
        assert!(matches!(tls.reload(), Err(TlsError::OtherKey)));
        std::fs::write(&tls.files.key, new_key).expect("written");
        assert!(tls.reload().expect("good"));
    }

    #[tokio::test]
    async fn who_takes_too_long_is_left() {
        let folder = tempfile::tempdir().expect("a folder");
        let tls = Tls::new(files(folder.path())).expect("good");
        let (_silent, server) = tokio::io::duplex(64);
        assert!(tls.accept_within(Duration::from_millis(1), server).await.is_none());
    }
}
