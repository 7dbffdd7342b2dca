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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{
        BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, PublicKeyData,
        SigningKey,
    };
    use rustls::crypto::ring;

    use super::*;

    type Authority = CertifiedIssuer<'static, KeyPair>;

    const DAY_S: u64 = 24 * 3600;
    /// 2030-01-01, and the day before and after it as a certificate has them.
    const NEW_YEAR_S: u64 = 1_893_456_000;
    const EVE: &[u8] = b"291231000000Z";
    const DAY_AFTER: &[u8] = b"300102000000Z";

    fn at(s: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(s))
    }

    fn authority(name: &str) -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    fn item(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
        let inner = parts.concat();
        let len = u16::try_from(inner.len()).unwrap().to_be_bytes();
        [&[tag, 0x82, len[0], len[1]], &inner[..]].concat()
    }

    /// A certificate of version 1, signed by an authority.
    fn of_first_version(by: &Authority, key: &KeyPair) -> Vec<u8> {
        // ecdsa-with-SHA256
        let algorithm = item(0x30, &[&[6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2]]);
        let issuer = item(0x30, &[Certificate::parse(by.der()).unwrap().subject]);
        let valid = item(0x30, &[&item(0x17, &[EVE]), &item(0x17, &[DAY_AFTER])]);
        let subject = item(0x30, &[]);
        let public = key.subject_public_key_info();
        let body = item(
            0x30,
            &[&[2, 1, 7], &algorithm, &issuer, &valid, &subject, &public],
        );
        let signature = by.key().sign(&body).unwrap();
        let signature = item(0x03, &[&[0], &signature]);
        item(0x30, &[&body, &algorithm, &signature])
    }

    fn verifier(trusted: &Authority) -> Verifier {
        let authorities = Authorities::new(vec![trusted.der().clone()]);
        let provider = ring::default_provider();
        Verifier::new(Arc::new(authorities), Ask::Certificate, &provider)
    }

    fn check(verifier: &Verifier, der: &[u8], s: u64) -> Result<(), Error> {
        let der = CertificateDer::from(der.to_vec());
        verifier.check(&der, &[], at(s), KeyUsage::client_auth())
    }

    #[test]
    fn one_of_the_first_version_is_good_if_an_authority_has_signed_it() {
        let (ca, namesake) = (authority("A"), authority("A"));
        let der = of_first_version(&ca, &KeyPair::generate().unwrap());
        let ours = verifier(&ca);
        assert_eq!(check(&ours, &der, NEW_YEAR_S), Ok(()));
        let expired = Err(CertificateError::Expired.into());
        assert_eq!(check(&ours, &der, NEW_YEAR_S + 2 * DAY_S), expired);
        let early = Err(CertificateError::NotValidYet.into());
        assert_eq!(check(&ours, &der, NEW_YEAR_S - 2 * DAY_S), early);
        let unknown = Err(CertificateError::UnknownIssuer.into());
        assert_eq!(check(&verifier(&namesake), &der, NEW_YEAR_S), unknown);
        // Whatever byte of it is changed, it is good no more.
        for byte in 0..der.len() {
            let mut other = der.clone();
            other[byte] ^= 1;
            assert!(check(&ours, &other, NEW_YEAR_S).is_err(), "{byte}");
        }
    }

    #[test]
    fn an_authority_may_speak_for_itself() {
        let (ca, other) = (authority("A"), authority("B"));
        let ours = verifier(&ca);
        assert_eq!(check(&ours, ca.der(), NEW_YEAR_S), Ok(()));
        assert!(check(&ours, other.der(), NEW_YEAR_S).is_err());
        let forever = at(u64::MAX).as_secs();
        assert!(check(&ours, ca.der(), forever).is_err());
        // Whom it has signed is checked as usual.
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::default();
        let made = params.signed_by(&key, &ca).unwrap();
        assert_eq!(check(&ours, made.der(), NEW_YEAR_S), Ok(()));
        assert!(check(&verifier(&other), made.der(), NEW_YEAR_S).is_err());
    }
}
