//! TLS for https waits: against a file of certificates, or against none at all.
//!
//! The host's own roots are not an option: what a suite waits for has a certificate made for the
//! run. The file is read anew at each try, since a step may make it while others wait.

use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    StreamOwned,
};

use crate::config::Trust;

/// The stream, once both sides speak TLS.
pub(super) fn over(
    stream: TcpStream,
    host: &str,
    trust: &Trust,
) -> anyhow::Result<StreamOwned<ClientConnection, TcpStream>> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .context("failed to set TLS up")?;
    let config = match trust {
        Trust::Ca(file) => builder.with_root_certificates(roots(file)?),
        Trust::Any => builder.dangerous().with_custom_certificate_verifier(Arc::new(Any(provider))),
    };
    let name = ServerName::try_from(host.to_owned())
        .with_context(|| format!("`{host}` is not a name a certificate can have"))?;
    let connection = ClientConnection::new(Arc::new(config.with_no_client_auth()), name)?;
    Ok(StreamOwned::new(connection, stream))
}

fn roots(file: &Path) -> anyhow::Result<RootCertStore> {
    let what = || format!("failed to read certificates from `{}`", file.display());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).with_context(what)? {
        roots.add(certificate.with_context(what)?).with_context(what)?;
    }
    anyhow::ensure!(!roots.is_empty(), "there is no certificate in `{}`", file.display());
    Ok(roots)
}

/// Takes any certificate, as `insecure = true` asks; signatures are still checked.
#[derive(Debug)]
struct Any(Arc<CryptoProvider>);

impl ServerCertVerifier for Any {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _between: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
