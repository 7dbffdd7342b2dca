//! Certificates and keys as they lie on disk: PEM, and what OpenSSL's directories of authorities look like.

use std::fs;
use std::path::Path;

use pkcs8::{EncryptedPrivateKeyInfo, SecretDocument};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::base::errno;

const LOCKED_BEGIN: &[u8] = b"-----BEGIN ENCRYPTED PRIVATE KEY-----";
const LOCKED_END: &[u8] = b"-----END ENCRYPTED PRIVATE KEY-----";
/// How the older form says that it is encrypted.
const LOCKED_OLD: &[u8] = b"Proc-Type: 4,ENCRYPTED";

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|e| errno::text(&e))
}

/// The certificates of a file, at least one.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err("no certificate in it".into()),
        Err(e) => Err(e.to_string()),
    }
}

/// The private key of a file, which may be locked with a password.
pub fn key(path: &Path, password: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    let text = read(path)?;
    if memchr::memmem::find(&text, LOCKED_OLD).is_some() {
        return Err(
            "it is encrypted in the old form, which is not read here; \"openssl pkcs8 -topk8\" makes the new one of it"
                .into(),
        );
    }
    if let Some(begin) = memchr::memmem::find(&text, LOCKED_BEGIN) {
        return unlock(&text[begin..], password);
    }
    PrivateKeyDer::from_pem_slice(&text).map_err(|e| e.to_string())
}

fn unlock(text: &[u8], password: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    if password.is_empty() {
        return Err("it is encrypted, and there is no password".into());
    }
    let end = memchr::memmem::find(text, LOCKED_END).ok_or("it has no end")?;
    let block = String::from_utf8_lossy(&text[..end + LOCKED_END.len()]);
    let (_, locked) = SecretDocument::from_pem(&block).map_err(|e| e.to_string())?;
    let key = EncryptedPrivateKeyInfo::try_from(locked.as_bytes()).map_err(|e| e.to_string())?;
    let key = key.decrypt(password).map_err(|e| e.to_string())?;
    Ok(PrivatePkcs8KeyDer::from(key.as_bytes().to_vec()).into())
}

/// The authorities of a file and of a directory. Of the directory those count whose names OpenSSL would look for: eight
/// digits of a hash, a dot and a number.
pub fn authorities(
    file: Option<&Path>,
    dir: Option<&Path>,
) -> Result<Vec<CertificateDer<'static>>, String> {
    let mut found = Vec::new();
    if let Some(file) = file {
        found.extend(certificates(file)?);
    }
    if let Some(dir) = dir {
        let entries = fs::read_dir(dir).map_err(|e| errno::text(&e))?;
        for entry in entries.flatten() {
            if is_hash_name(&entry.file_name().to_string_lossy()) {
                // What is none is passed over, as by OpenSSL.
                found.extend(certificates(&entry.path()).unwrap_or_default());
            }
        }
    }
    Ok(found)
}

fn is_hash_name(name: &str) -> bool {
    name.split_once('.').is_some_and(|(hash, number)| {
        hash.len() == 8
            && hash.bytes().all(|b| b.is_ascii_hexdigit())
            && !number.is_empty()
            && number.bytes().all(|b| b.is_ascii_digit())
    })
}

/// The error is Redis's words for a file that has no parameters of Diffie-Hellman.
pub fn check_dh_params(path: &Path) -> Result<(), String> {
    let name = path.display();
    let text = read(path).map_err(|why| format!("Failed to load {name}: {why}"))?;
    match memchr::memmem::find(&text, b"-----BEGIN DH PARAMETERS-----") {
        Some(_) => Ok(()),
        None => Err(format!("{name}: failed to read DH params.")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_directory_what_is_named_by_a_hash_counts() {
        for (name, yes) in [
            ("12ab34cd.0", true),
            ("12ab34cd.12", true),
            ("12ab34cd.r0", false),
            ("12ab34c.0", false),
            ("ca.crt", false),
            ("12ab34cd.", false),
        ] {
            assert_eq!(is_hash_name(name), yes, "{name}");
        }
    }
}
