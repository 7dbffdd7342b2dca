//! TLS of the client programs: what their options ask for.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::version::{TLS12, TLS13};

use super::context::{call, client, identity, with_suites};
use super::verify::{Ask, Authorities, Verifier};
use super::{Session, ciphers, files};

/// The options, as they were given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// TLS is spoken.
    pub on: bool,
    pub sni: Option<Vec<u8>>,
    pub cacert: Option<Vec<u8>>,
    pub cacertdir: Option<Vec<u8>>,
    pub cert: Option<Vec<u8>>,
    pub key: Option<Vec<u8>>,
    pub insecure: bool,
    pub ciphers: Option<Vec<u8>>,
    pub ciphersuites: Option<Vec<u8>>,
}

impl Options {
    /// Takes an option that stands alone; `false` if it is none of these.
    pub fn take_flag(&mut self, option: &[u8]) -> bool {
        let field = match option {
            b"--tls" => &mut self.on,
            b"--insecure" => &mut self.insecure,
            _ => return false,
        };
        *field = true;
        true
    }

    /// Takes an option that has a value; `false` if it is none of these.
    pub fn take(&mut self, option: &[u8], value: &[u8]) -> bool {
        let field = match option {
            b"--sni" => &mut self.sni,
            b"--cacert" => &mut self.cacert,
            b"--cacertdir" => &mut self.cacertdir,
            b"--cert" => &mut self.cert,
            b"--key" => &mut self.key,
            b"--tls-ciphers" => &mut self.ciphers,
            b"--tls-ciphersuites" => &mut self.ciphersuites,
            _ => return false,
        };
        *field = Some(value.to_vec());
        true
    }
}

/// Who calls servers over TLS.
#[derive(Clone)]
pub struct Caller {
    config: Arc<ClientConfig>,
    sni: String,
}

fn path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

impl Caller {
    /// As the options say. The error is Redis's words for what is wrong.
    pub fn new(options: &Options) -> Result<Caller, &'static str> {
        let text = |list: &Option<Vec<u8>>| {
            let list = list.as_deref().unwrap_or_default();
            String::from_utf8_lossy(list).into_owned()
        };
        let authorities = match options.insecure {
            true => Vec::new(),
            false => trusted(options)?,
        };
        let older = ciphers::of_tls12(&text(&options.ciphers));
        let older = older.ok_or("Error while configuring ciphers")?;
        let newer = ciphers::of_tls13(&text(&options.ciphersuites));
        let newer = newer.map_err(|_| "Error while setting cypher suites")?;
        let provider = Arc::new(with_suites(older, newer));
        let shown = match (&options.cert, &options.key) {
            (Some(cert), Some(key)) => {
                files::certificates(path(cert)).map_err(|_| "Invalid client certificate")?;
                let loaded = identity(path(cert), path(key), b"", &provider);
                Some(Arc::new(loaded.map_err(|_| "Invalid private key")?))
            }
            _ => None,
        };
        let ask = match options.insecure {
            true => Ask::Nothing,
            false => Ask::Certificate,
        };
        let verifier = Verifier::new(Arc::new(Authorities::new(authorities)), ask, &provider);
        let config = client(&provider, &[&TLS13, &TLS12], verifier, shown);
        Ok(Caller {
            config: Arc::new(config.map_err(|_| "Failed to create SSL_CTX")?),
            sni: text(&options.sni),
        })
    }

    /// Its side of a new connection. The error is for the user.
    pub fn call(&self) -> Result<Session, String> {
        call(&self.config, &self.sni)
    }
}

/// The authorities that are named, or those of the system.
fn trusted(
    options: &Options,
) -> Result<Vec<rustls::pki_types::CertificateDer<'static>>, &'static str> {
    let (file, dir) = (options.cacert.as_deref(), options.cacertdir.as_deref());
    if file.is_none() && dir.is_none() {
        return Ok(rustls_native_certs::load_native_certs().certs);
    }
    files::authorities(file.map(path), dir.map(path))
        .map_err(|_| "Invalid CA Certificate File/Directory")
}
