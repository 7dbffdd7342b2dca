//! Where a server is, as `redis://user:password@host:port/db`; every part but the scheme may be left out. With `rediss://`
//! it speaks TLS.

use super::number::atoi;
use super::out::{Stop, complain};
use crate::tls;

/// A server, who to be there, and which database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub host: Vec<u8>,
    pub port: i32,
    pub user: Option<Vec<u8>>,
    pub password: Option<Vec<u8>>,
    pub db: i32,
    /// Whether TLS is spoken there, and how.
    pub tls: tls::Options,
}

impl Default for Place {
    fn default() -> Place {
        Place {
            host: b"127.0.0.1".to_vec(),
            port: 6379,
            user: None,
            password: None,
            db: 0,
            tls: tls::Options::default(),
        }
    }
}

impl Place {
    /// Takes what a URI says; what it leaves out stays.
    pub fn take_uri(&mut self, uri: &[u8]) -> Result<(), Stop> {
        let (tls, mut rest) = scheme(uri)?;
        self.tls.on |= tls;
        if rest.is_empty() {
            return Ok(());
        }
        if let Some(at) = rest.iter().position(|&b| b == b'@') {
            let mut secret = &rest[..at];
            if let Some(colon) = secret.iter().position(|&b| b == b':') {
                self.user = Some(percent_decode(&secret[..colon])?);
                secret = &secret[colon + 1..];
            }
            self.password = Some(percent_decode(secret)?);
            rest = &rest[at + 1..];
            if rest.is_empty() {
                return Ok(());
            }
        }
        let path = rest.iter().position(|&b| b == b'/');
        let authority = &rest[..path.unwrap_or(rest.len())];
        if !authority.is_empty() {
            self.take_address(authority);
        }
        match path.map(|at| &rest[at + 1..]) {
            Some(db) if !db.is_empty() => self.db = atoi(db),
            _ => {}
        }
        Ok(())
    }

    fn take_address(&mut self, text: &[u8]) {
        let in_brackets = text
            .strip_prefix(b"[")
            .and_then(|rest| Some((rest, rest.iter().position(|&b| b == b']')?)));
        let (host, port) = match in_brackets {
            Some((rest, end)) => (&rest[..end], rest[end + 1..].strip_prefix(b":")),
            None => match text.iter().position(|&b| b == b':') {
                Some(colon) => (&text[..colon], Some(&text[colon + 1..])),
                None => (text, None),
            },
        };
        self.host = host.to_vec();
        if let Some(port) = port {
            self.port = atoi(port);
        }
    }

    /// A port that is none ends the program.
    pub fn check_port(&self) -> Result<(), Stop> {
        if u16::try_from(self.port).is_err() {
            complain!("Invalid server port.\n");
            return Err(Stop(1));
        }
        Ok(())
    }
}

/// Whether the scheme asks for TLS, and what follows it.
fn scheme(uri: &[u8]) -> Result<(bool, &[u8]), Stop> {
    let after = |scheme: &[u8]| {
        let head = uri.get(..scheme.len())?;
        head.eq_ignore_ascii_case(scheme)
            .then(|| &uri[scheme.len()..])
    };
    match (after(b"rediss://"), after(b"redis://")) {
        (Some(rest), _) => Ok((true, rest)),
        (None, Some(rest)) => Ok((false, rest)),
        (None, None) => {
            complain!("Invalid URI scheme\n");
            Err(Stop(1))
        }
    }
}

fn percent_decode(text: &[u8]) -> Result<Vec<u8>, Stop> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let Some((digits, after)) = after.split_at_checked(2) else {
            complain!("Incomplete URI encoding\n");
            return Err(Stop(1));
        };
        let digit = |at: usize| char::from(digits[at]).to_digit(16).map(|d| d as u8);
        let (Some(high), Some(low)) = (digit(0), digit(1)) else {
            complain!("Illegal character in URI encoding\n");
            return Err(Stop(1));
        };
        out.push(high << 4 | low);
        rest = after;
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(uri: &str) -> Result<Place, Stop> {
        let mut place = Place::default();
        place.take_uri(uri.as_bytes())?;
        Ok(place)
    }

    #[test]
    fn every_part_may_be_missing() {
        assert_eq!(place("redis://").unwrap(), Place::default());
        let all = place("REDIS://us%65r:p%3aw@[::1]:7000/3").unwrap();
        assert_eq!(
            all,
            Place {
                host: b"::1".to_vec(),
                port: 7000,
                user: Some(b"user".to_vec()),
                password: Some(b"p:w".to_vec()),
                db: 3,
                tls: tls::Options::default(),
            }
        );
        assert_eq!(place("redis://pw@").unwrap().password.unwrap(), b"pw");
        assert_eq!(place("redis://pw@").unwrap().user, None);
        assert_eq!(place("redis:///7").unwrap().db, 7);
        assert_eq!(place("redis://h/").unwrap().host, b"h");
        assert_eq!(place("redis://h:1").unwrap().port, 1);
        let safe = place("Rediss://h:1").unwrap();
        assert!(safe.tls.on && safe.port == 1 && place("rediss://").unwrap().tls.on);
        for bad in ["http://x", "redis://%4@h", "redis://%zz@h"] {
            assert_eq!(place(bad), Err(Stop(1)), "{bad}");
        }
    }
}
