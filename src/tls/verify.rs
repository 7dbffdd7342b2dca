//! Whom to believe: the check of the other side's certificate.
//!
//! As with Redis a chain has to lead to an authority that is trusted; what name stands in the certificate is no matter. Two
//! kinds of certificates that are common among Redis servers are none to the library that checks chains, and are checked
//! here: those of version 1, which `openssl x509 -req` makes where no extensions are asked for, if an authority has signed
//! them itself; and one that is its own authority and is trusted as such.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
    verify_tls13_signature_with_raw_key,
};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, PeerMisbehaved,
    RootCertStore, SignatureScheme,
};
use webpki::{EndEntityCert, ExtendedKeyUsageValidator, KeyUsage, RawPublicKeyEntity};

use super::der::Certificate;

/// The authorities that are trusted.
#[derive(Debug)]
pub struct Authorities {
    store: RootCertStore,
    /// Their certificates.
    whole: Vec<CertificateDer<'static>>,
    names: Vec<DistinguishedName>,
}

impl Authorities {
    /// These; what is no certificate is left out.
    pub fn new(certificates: Vec<CertificateDer<'static>>) -> Authorities {
        let mut store = RootCertStore::empty();
        let whole: Vec<_> = certificates
            .into_iter()
            .filter(|der| store.add(der.clone()).is_ok())
            .collect();
        Authorities {
            names: store.subjects(),
            store,
            whole,
        }
    }
}

/// What is asked of the other side of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// Whoever it is.
    Nothing,
    /// A certificate may be shown, and must be good then.
    Optional,
    /// A good certificate.
    Certificate,
}

/// See the head of the file.
#[derive(Debug)]
pub struct Verifier {
    pub authorities: Arc<Authorities>,
    pub ask: Ask,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    /// Asks this of the other side, in the light of these authorities.
    pub fn new(authorities: Arc<Authorities>, ask: Ask, provider: &CryptoProvider) -> Verifier {
        Verifier {
            authorities,
            ask,
            algorithms: provider.signature_verification_algorithms,
        }
    }

    /// Checks a chain, its first certificate first.
    fn check(
        &self,
        first: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
        usage: impl ExtendedKeyUsageValidator,
    ) -> Result<(), Error> {
        let parsed = Certificate::parse(first).ok_or(CertificateError::BadEncoding)?;
        let is_authority = self.authorities.whole.iter().any(|a| **a == **first);
        if is_authority || parsed.is_first_version {
            if !parsed.is_valid_at(now) {
                let late = parsed.valid.1 < i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
                return Err(match late {
                    true => CertificateError::Expired,
                    false => CertificateError::NotValidYet,
                }
                .into());
            }
            return match is_authority || self.signed_by_authority(&parsed) {
                true => Ok(()),
                false => Err(CertificateError::UnknownIssuer.into()),
            };
        }
        let certificate = EndEntityCert::try_from(first).map_err(refused)?;
        let roots = &self.authorities.store.roots;
        let all = self.algorithms.all;
        certificate
            .verify_for_usage(all, roots, others, now, usage, None, None)
            .map(|_| ())
            .map_err(refused)
    }

    /// True if an authority has signed this certificate itself.
    fn signed_by_authority(&self, certificate: &Certificate<'_>) -> bool {
        self.authorities.whole.iter().any(|der| {
            Certificate::parse(der).is_some_and(|authority| {
                let fits = self
                    .algorithms
                    .all
                    .iter()
                    .filter(|a| a.signature_alg_id().as_ref() == certificate.algorithm);
                authority.subject == certificate.issuer
                    && fits.into_iter().any(|algorithm| {
                        let key = SubjectPublicKeyInfoDer::from(authority.key);
                        let (body, signature) = (certificate.body, certificate.signature);
                        RawPublicKeyEntity::try_from(&key)
                            .and_then(|key| key.verify_signature(*algorithm, body, signature))
                            .is_ok()
                    })
            })
        })
    }

    /// Checks that whoever shows a certificate has its key, in a handshake of TLS 1.2.
    fn check_key_12(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let parsed = Certificate::parse(cert).ok_or(CertificateError::BadEncoding)?;
        if !parsed.is_first_version {
            return verify_tls12_signature(message, cert, dss, &self.algorithms);
        }
        let key = SubjectPublicKeyInfoDer::from(parsed.key);
        let key = RawPublicKeyEntity::try_from(&key).map_err(refused)?;
        let mapping = self.algorithms.mapping.iter();
        let mut fitting = mapping.filter(|(scheme, _)| *scheme == dss.scheme);
        let (_, possible) = fitting
            .next()
            .ok_or(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme)?;
        match possible
            .iter()
            .any(|a| key.verify_signature(*a, message, dss.signature()).is_ok())
        {
            true => Ok(HandshakeSignatureValid::assertion()),
            false => Err(CertificateError::BadSignature.into()),
        }
    }

    /// The same of TLS 1.3.
    fn check_key_13(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let parsed = Certificate::parse(cert).ok_or(CertificateError::BadEncoding)?;
        if !parsed.is_first_version {
            return verify_tls13_signature(message, cert, dss, &self.algorithms);
        }
        let key = SubjectPublicKeyInfoDer::from(parsed.key);
        verify_tls13_signature_with_raw_key(message, &key, dss, &self.algorithms)
    }
}

/// Why a certificate is not believed, in the words of the library that shakes hands.
fn refused(error: webpki::Error) -> Error {
    use webpki::Error as E;
    match error {
        E::BadDer | E::BadDerTime | E::TrailingData(_) => CertificateError::BadEncoding.into(),
        E::CertNotValidYet { .. } => CertificateError::NotValidYet.into(),
        E::CertExpired { .. } => CertificateError::Expired.into(),
        E::UnknownIssuer => CertificateError::UnknownIssuer.into(),
        E::InvalidSignatureForPublicKey => CertificateError::BadSignature.into(),
        E::RequiredEkuNotFoundContext(_) => CertificateError::InvalidPurpose.into(),
        other => Error::General(format!("invalid peer certificate: {other}")),
    }
}

impl ClientCertVerifier for Verifier {
    fn offer_client_auth(&self) -> bool {
        self.ask != Ask::Nothing
    }

    fn client_auth_mandatory(&self) -> bool {
        self.ask == Ask::Certificate
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.authorities.names
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(end_entity, intermediates, now, KeyUsage::client_auth())
            .map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_key_12(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_key_13(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.ask != Ask::Nothing {
            self.check(end_entity, intermediates, now, KeyUsage::server_auth())?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_key_12(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_key_13(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
