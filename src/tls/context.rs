//! What all connections have in common: our certificate, whom we believe, what we speak.
//!
//! A context is made of the configuration as a whole or not at all; connections keep the one they began with. Of what
//! Redis can promise with OpenSSL some is not to be had here: that is said in [`Context::notes`], or is the reason that there
//! is no context, where nothing would be left.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{IpAddr, Ipv4Addr, ServerName};
use rustls::server::{NoServerSessionStorage, StoresServerSessions};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection,
    SupportedProtocolVersion,
};

use super::cache::SessionCache;
use super::der::Certificate;
use super::verify::{Ask, Authorities, Verifier};
use super::{Session, ciphers, files};
use crate::base::time::Clock;
use crate::config::{Config, Text, TlsAuthClients};

/// See the head of the file.
pub struct Context {
    /// By what is asked of clients. Each has sessions of its own: who was let in without a certificate may not go on where
    /// one is asked for.
    servers: [Arc<ServerConfig>; 3],
    client: Arc<ClientConfig>,
    /// What the configuration asks for and is not to be had, for the log.
    pub notes: Vec<String>,
}

impl Context {
    /// The one that a server's configuration describes. The error is for the log.
    pub fn of_config(config: &Config, clock: &Clock) -> Result<Context, String> {
        require_files(config)?;
        let mut notes = Vec::new();
        let versions = versions(&config.tls_protocols.lossy(), &mut notes)?;
        let provider = provider(config, &mut notes)?;
        let own = Arc::new(own_identity(config, &provider)?);
        let authorities = Arc::new(trusted(config)?);
        check_dh_params(config, &mut notes)?;
        let shown = match called_identity(config, &provider)? {
            Some(shown) => Arc::new(shown),
            None => own.clone(),
        };
        let server = |ask| -> Result<_, String> {
            let verifier = Verifier::new(authorities.clone(), ask, &provider);
            let built = ServerConfig::builder_with_provider(provider.clone())
                .with_protocol_versions(&versions)
                .map_err(|e| e.to_string())?
                .with_client_cert_verifier(Arc::new(verifier))
                .with_cert_resolver(Arc::new(SingleCertAndKey::from(own.clone())));
            Ok(Arc::new(with_sessions(built, config, clock)))
        };
        let servers = [
            server(Ask::Nothing)?,
            server(Ask::Optional)?,
            server(Ask::Certificate)?,
        ];
        let verifier = Verifier::new(authorities.clone(), Ask::Certificate, &provider);
        let client = client(&provider, &versions, verifier, Some(shown))?;
        Ok(Context {
            servers,
            client: Arc::new(client),
            notes,
        })
    }

    /// The server's side of a connection.
    pub fn accept(&self, clients: TlsAuthClients) -> Result<Session, String> {
        let [nothing, optional, certificate] = &self.servers;
        let config = match clients {
            TlsAuthClients::No => nothing,
            TlsAuthClients::Optional => optional,
            TlsAuthClients::Yes => certificate,
        };
        let made = ServerConnection::new(config.clone()).map_err(|e| e.to_string())?;
        Ok(Session::new(Connection::Server(made)))
    }

    /// The side of who calls this host.
    pub fn call(&self, host: &str) -> Result<Session, String> {
        call(&self.client, host)
    }
}

/// The side of who calls a server. A name is told to it, an address is not.
pub(super) fn call(config: &Arc<ClientConfig>, host: &str) -> Result<Session, String> {
    let nameless = ServerName::IpAddress(IpAddr::V4(Ipv4Addr::from([127, 0, 0, 1])));
    let name = ServerName::try_from(host.to_string()).unwrap_or(nameless);
    let made = ClientConnection::new(config.clone(), name).map_err(|e| e.to_string())?;
    Ok(Session::new(Connection::Client(made)))
}

/// What all calls have in common.
pub(super) fn client(
    provider: &Arc<CryptoProvider>,
    versions: &[&'static SupportedProtocolVersion],
    verifier: Verifier,
    shown: Option<Arc<CertifiedKey>>,
) -> Result<ClientConfig, String> {
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(versions)
        .map_err(|e| e.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut built = match shown {
        None => builder.with_no_client_auth(),
        Some(shown) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(shown))),
    };
    // A link lives long: there is nothing to gain, and names do not tell one server from another here.
    built.resumption = rustls::client::Resumption::disabled();
    Ok(built)
}

/// A certificate with its key. The error is for the log.
pub(super) fn identity(
    certificate: &Path,
    key: &Path,
    password: &[u8],
    provider: &CryptoProvider,
) -> Result<CertifiedKey, String> {
    let name = certificate.display();
    let chain = files::certificates(certificate)
        .map_err(|why| format!("Failed to load certificate: {name}: {why}"))?;
    let failed = |why: String| format!("Failed to load private key: {}: {why}", key.display());
    let key_der = files::key(key, password).map_err(failed)?;
    let loaded = provider.key_provider.load_private_key(key_der);
    let loaded = loaded.map_err(|e| failed(e.to_string()))?;
    let parsed = chain.first().and_then(|first| Certificate::parse(first));
    let Some(parsed) = parsed else {
        return Err(format!(
            "Failed to load certificate: {name}: it can't be read"
        ));
    };
    if loaded
        .public_key()
        .is_some_and(|key| key.as_ref() != parsed.key)
    {
        return Err(failed("it does not belong to the certificate".into()));
    }
    Ok(CertifiedKey::new(chain, loaded))
}

/// What Redis wants to be named before it looks at anything.
fn require_files(config: &Config) -> Result<(), String> {
    if config.tls_cert_file.is_empty() {
        return Err("No tls-cert-file configured!".into());
    }
    if config.tls_key_file.is_empty() {
        return Err("No tls-key-file configured!".into());
    }
    let asks = config.tls_auth_clients != TlsAuthClients::No;
    let trusts = !config.tls_ca_cert_file.is_empty() || !config.tls_ca_cert_dir.is_empty();
    if (asks || config.tls_cluster || config.tls_replication) && !trusts {
        return Err(
            "Either tls-ca-cert-file or tls-ca-cert-dir must be specified when tls-cluster, tls-replication or \
             tls-auth-clients are enabled!"
                .into(),
        );
    }
    Ok(())
}

/// A path of the configuration.
fn path(config: &Config, text: &Text) -> PathBuf {
    config.dir.as_path().join(text.as_path())
}

/// What we show to clients.
fn own_identity(config: &Config, provider: &CryptoProvider) -> Result<CertifiedKey, String> {
    identity(
        &path(config, &config.tls_cert_file),
        &path(config, &config.tls_key_file),
        &config.tls_key_file_pass,
        provider,
    )
}

/// What we show to servers, if that is something else.
fn called_identity(
    config: &Config,
    provider: &CryptoProvider,
) -> Result<Option<CertifiedKey>, String> {
    let (cert, key) = (&config.tls_client_cert_file, &config.tls_client_key_file);
    if cert.is_empty() || key.is_empty() {
        return Ok(None);
    }
    let password = &config.tls_client_key_file_pass;
    identity(&path(config, cert), &path(config, key), password, provider).map(Some)
}

fn check_dh_params(config: &Config, notes: &mut Vec<String>) -> Result<(), String> {
    if config.tls_dh_params_file.is_empty() {
        return Ok(());
    }
    files::check_dh_params(&path(config, &config.tls_dh_params_file))?;
    notes.push(
        "WARNING: no effect of tls-dh-params-file: no cipher that is offered here needs it.".into(),
    );
    Ok(())
}

fn trusted(config: &Config) -> Result<Authorities, String> {
    let given = |text: &Text| (!text.is_empty()).then(|| path(config, text));
    let (file, dir) = (
        given(&config.tls_ca_cert_file),
        given(&config.tls_ca_cert_dir),
    );
    let found = files::authorities(file.as_deref(), dir.as_deref());
    let found = found.map(Authorities::new);
    found.map_err(|why| format!("Failed to configure CA certificate(s) file/directory: {why}"))
}

fn with_sessions(mut built: ServerConfig, config: &Config, clock: &Clock) -> ServerConfig {
    let (size, lives_s) = (
        config.tls_session_cache_size,
        config.tls_session_cache_timeout,
    );
    let kept: Arc<dyn StoresServerSessions> = match config.tls_session_caching {
        true => Arc::new(SessionCache::new(clock.clone(), size, lives_s)),
        false => Arc::new(NoServerSessionStorage {}),
    };
    built.session_storage = kept;
    built.send_tls13_tickets = usize::from(config.tls_session_caching);
    built.ignore_client_order = config.tls_prefer_server_ciphers;
    built
}

/// The versions that `tls-protocols` names and that are spoken here; all of them if it names none.
fn versions(
    words: &str,
    notes: &mut Vec<String>,
) -> Result<Vec<&'static SupportedProtocolVersion>, String> {
    if words.is_empty() {
        return Ok(vec![&TLS13, &TLS12]);
    }
    let (mut found, mut old) = (Vec::new(), Vec::new());
    for word in words.split(' ') {
        match word.to_ascii_lowercase().as_str() {
            "tlsv1.3" => found.push(&TLS13),
            "tlsv1.2" => found.push(&TLS12),
            "tlsv1" | "tlsv1.1" => old.push(word),
            _ => {
                return Err(
                    "Invalid tls-protocols specified. Use a combination of 'TLSv1', 'TLSv1.1', 'TLSv1.2' and 'TLSv1.3'."
                        .into(),
                );
            }
        }
    }
    let old = old.join(" ");
    if found.is_empty() {
        return Err(format!(
            "tls-protocols: {old} alone can't be: TLSv1.2 and TLSv1.3 are spoken here."
        ));
    }
    if !old.is_empty() {
        notes.push(format!(
            "WARNING: no effect of tls-protocols {old}: TLSv1.2 and TLSv1.3 are spoken here."
        ));
    }
    Ok(found)
}

/// The ciphers that the configuration allows.
fn provider(config: &Config, notes: &mut Vec<String>) -> Result<Arc<CryptoProvider>, String> {
    let (list, suites) = (config.tls_ciphers.lossy(), config.tls_ciphersuites.lossy());
    let older = ciphers::of_tls12(&list);
    let older = older.ok_or_else(|| format!("Failed to configure ciphers: {list}"))?;
    let newer = ciphers::of_tls13(&suites);
    let newer = newer.map_err(|_| format!("Failed to configure ciphersuites: {suites}"))?;
    for (name, missing) in [
        ("tls-ciphers", &older.missing),
        ("tls-ciphersuites", &newer.missing),
    ] {
        if !missing.is_empty() {
            let missing = missing.join(" ");
            notes.push(format!("WARNING: {name}: not offered here: {missing}."));
        }
    }
    Ok(Arc::new(with_suites(older, newer)))
}

pub(super) fn with_suites(older: ciphers::Chosen, newer: ciphers::Chosen) -> CryptoProvider {
    CryptoProvider {
        cipher_suites: [newer.suites, older.suites].concat(),
        ..ring::default_provider()
    }
}
