//! The names that OpenSSL has for ciphers, and which of them are spoken here.
//!
//! `tls-ciphers` is a list of rules: a name or a group adds ciphers at the end, `-` takes some away, `!` for good, `+` moves
//! some to the end; `A+B` means those that are both. What a rule names that is not offered here adds nothing: only ciphers
//! with a key exchange of their own for each connection, and which protect what they encrypt in one step, are.

use rustls::SupportedCipherSuite;
use rustls::crypto::ring::cipher_suite as suites;

/// A cipher of TLS 1.2: its name, who signs and what encrypts, itself. The strongest first, as OpenSSL has them.
type Cipher = (&'static str, [&'static str; 2], SupportedCipherSuite);

static CIPHERS_12: &[Cipher] = &[
    (
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        ["ECDSA", "AES256"],
        suites::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    ),
    (
        "ECDHE-RSA-AES256-GCM-SHA384",
        ["RSA", "AES256"],
        suites::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    ),
    (
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        ["ECDSA", "CHACHA20"],
        suites::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
    (
        "ECDHE-RSA-CHACHA20-POLY1305",
        ["RSA", "CHACHA20"],
        suites::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
    (
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        ["ECDSA", "AES128"],
        suites::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    ),
    (
        "ECDHE-RSA-AES128-GCM-SHA256",
        ["RSA", "AES128"],
        suites::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    ),
];

static CIPHERS_13: &[(&str, SupportedCipherSuite)] = &[
    ("TLS_AES_256_GCM_SHA384", suites::TLS13_AES_256_GCM_SHA384),
    (
        "TLS_CHACHA20_POLY1305_SHA256",
        suites::TLS13_CHACHA20_POLY1305_SHA256,
    ),
    ("TLS_AES_128_GCM_SHA256", suites::TLS13_AES_128_GCM_SHA256),
];

/// Suites of TLS 1.3 that OpenSSL has and we have not.
const OTHERS_13: &[&str] = &["TLS_AES_128_CCM_SHA256", "TLS_AES_128_CCM_8_SHA256"];

/// What came of a list.
#[derive(Debug)]
pub struct Chosen {
    /// In the order of preference.
    pub suites: Vec<SupportedCipherSuite>,
    /// What it asked for and is not offered here.
    pub missing: Vec<String>,
}

/// The ciphers of TLS 1.2 that a list means; an empty one means all. `None` if nothing is left.
pub fn of_tls12(list: &str) -> Option<Chosen> {
    let mut chosen: Vec<&Cipher> = Vec::new();
    let mut banned: Vec<&str> = Vec::new();
    let mut missing = Vec::new();
    let list = if list.is_empty() { "DEFAULT" } else { list };
    for rule in list.split([':', ',', ' ']).filter(|rule| !rule.is_empty()) {
        let (how, what) = match rule.as_bytes()[0] {
            how @ (b'!' | b'-' | b'+') => (how, &rule[1..]),
            // (`@STRENGTH`, `@SECLEVEL=`: those here are all strong.)
            b'@' => continue,
            _ => (0, rule),
        };
        let meant: Vec<&Cipher> = CIPHERS_12.iter().filter(|c| is_meant(c, what)).collect();
        let is_meant = |name: &str| meant.iter().any(|c| c.0 == name);
        match how {
            0 if meant.is_empty() => missing.push(rule.to_string()),
            0 => {
                let new = meant.iter().filter(|c| !banned.contains(&c.0));
                let new: Vec<_> = new.filter(|c| !chosen.iter().any(|d| d.0 == c.0)).collect();
                chosen.extend(new);
            }
            b'+' => chosen.sort_by_key(|c| is_meant(c.0)),
            _ => {
                chosen.retain(|c| !is_meant(c.0));
                if how == b'!' {
                    banned.extend(meant.iter().map(|c| c.0));
                }
            }
        }
    }
    let suites: Vec<_> = chosen.into_iter().map(|c| c.2).collect();
    (!suites.is_empty()).then_some(Chosen { suites, missing })
}

/// True if the names between the `+` of a rule all fit a cipher.
fn is_meant((name, [signs, encrypts], _): &Cipher, rule: &str) -> bool {
    let fits = |word: &str| match word {
        "ALL" | "DEFAULT" | "HIGH" | "TLSv1.2" => true,
        "ECDHE" | "EECDH" | "kECDHE" | "kEECDH" => true,
        "FIPS" => *encrypts != "CHACHA20",
        "AES" | "AESGCM" => encrypts.starts_with("AES"),
        "aRSA" => *signs == "RSA",
        "aECDSA" | "ECDSA" => *signs == "ECDSA",
        word => word == *encrypts,
    };
    rule == *name || rule.split('+').all(fits)
}

/// The suites of TLS 1.3 that a list means; an empty one means all. The error is a name that is none.
pub fn of_tls13(list: &str) -> Result<Chosen, String> {
    let mut chosen = Chosen {
        suites: Vec::new(),
        missing: Vec::new(),
    };
    if list.is_empty() {
        chosen.suites = CIPHERS_13.iter().map(|(_, suite)| *suite).collect();
    }
    for name in list.split(':').filter(|name| !name.is_empty()) {
        match CIPHERS_13.iter().find(|(n, _)| *n == name) {
            Some((_, suite)) => chosen.suites.push(*suite),
            None if OTHERS_13.contains(&name) => chosen.missing.push(name.into()),
            None => return Err(name.into()),
        }
    }
    match chosen.suites.is_empty() {
        true => Err(list.into()),
        false => Ok(chosen),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &str) -> Vec<&'static str> {
        let Some(chosen) = of_tls12(list) else {
            return Vec::new();
        };
        let name = |s: &SupportedCipherSuite| CIPHERS_12.iter().find(|c| c.2 == *s).unwrap().0;
        chosen.suites.iter().map(name).collect()
    }

    #[test]
    fn a_list_is_read_rule_by_rule() {
        assert_eq!(names("").len(), 6);
        assert_eq!(names("DEFAULT:!MEDIUM").len(), 6);
        assert_eq!(
            names("ECDHE-RSA-AES128-GCM-SHA256:aRSA+AES256"),
            ["ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-AES256-GCM-SHA384"]
        );
        assert_eq!(
            names("ALL:!aECDSA:-CHACHA20:+AES256"),
            ["ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-AES256-GCM-SHA384"]
        );
        // What was banned does not come back.
        assert_eq!(names("!AESGCM,ALL").len(), 2);
        assert!(names("AES128-SHA256:AES256-SHA256").is_empty());
        assert!(names("RSA").is_empty());
        let partly = of_tls12("AES128-SHA256:HIGH").unwrap();
        assert_eq!(partly.missing, ["AES128-SHA256"]);
    }

    #[test]
    fn suites_of_the_newer_version_are_named_in_full() {
        assert_eq!(of_tls13("").unwrap().suites.len(), 3);
        let two = of_tls13("TLS_AES_128_GCM_SHA256:TLS_AES_128_CCM_SHA256").unwrap();
        assert_eq!(two.suites, [suites::TLS13_AES_128_GCM_SHA256]);
        assert_eq!(two.missing, ["TLS_AES_128_CCM_SHA256"]);
        assert_eq!(of_tls13("TLS_AES_128_GCM_SHA256:x").unwrap_err(), "x");
        assert!(of_tls13("TLS_AES_128_CCM_SHA256").is_err());
    }
}
