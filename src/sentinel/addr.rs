//! Where an instance is: its name as given, and the address that the name stands for.
//!
//! Addresses need no look-up. Names are only known if `resolve-hostnames` is on: what they stand for is asked of the
//! outside ([`Action::LookUp`]), and kept. Nothing waits for an answer: who meets a name for the first time comes back to
//! it when the next message brings it again.

use core::net::IpAddr;

use super::instance::Id;
use super::state::{Action, Sentinel};
use crate::base::level::Level;

/// An answer is asked for again after this.
const NAME_KEPT_MS: i64 = 10_000;

/// Name or address, address, port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addr {
    /// As it was given.
    pub host: String,
    /// Empty as long as it is not known.
    pub ip: String,
    pub port: u16,
}

impl Addr {
    /// True if both are the same place, by address or by name.
    pub fn is(&self, other: &Addr) -> bool {
        let same_ip = !self.ip.is_empty() && self.ip == other.ip;
        self.port == other.port && (same_ip || self.host.eq_ignore_ascii_case(&other.host))
    }
}

/// Why something is no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadAddr {
    Port,
    Name,
}

/// What is known of a name.
#[derive(Clone, Debug)]
pub struct NameKnown {
    pub ip: Option<String>,
    /// When that was learned, or asked.
    pub at_ms: i64,
    pub is_asked: bool,
}

/// An address in its usual form; `None` if it is none.
pub fn literal(host: &str) -> Option<String> {
    host.parse::<IpAddr>().ok().map(|ip| ip.to_string())
}

impl Sentinel {
    /// The address that a host stands for, as far as it is known.
    pub fn resolve(&self, host: &str) -> Option<String> {
        literal(host).or_else(|| {
            let known = self
                .names
                .get(host)
                .filter(|_| self.settings.resolve_hostnames);
            known.and_then(|known| known.ip.clone())
        })
    }

    /// True if it has been asked what this host stands for and no answer has come yet: then it is asked now.
    pub(super) fn must_wait_for(&mut self, host: &str) -> bool {
        if !self.settings.resolve_hostnames || literal(host).is_some() {
            return false;
        }
        let now_ms = self.now_ms;
        let known = self.names.get(host);
        let is_new = known.is_none();
        let is_asked = known.is_some_and(|known| known.is_asked);
        if !is_asked && known.is_none_or(|known| now_ms - known.at_ms > NAME_KEPT_MS) {
            let ip = known.and_then(|known| known.ip.clone());
            let asked = NameKnown {
                ip,
                at_ms: now_ms,
                is_asked: true,
            };
            self.names.insert(host.to_string(), asked);
            self.out.push(Action::LookUp(host.to_string()));
        }
        is_new || (is_asked && self.names.get(host).is_none_or(|known| known.ip.is_none()))
    }

    /// A name was looked up.
    pub fn looked_up(&mut self, now_ms: i64, host: &str, ip: Option<String>) {
        self.now_ms = now_ms;
        let known = NameKnown {
            ip: ip.as_deref().and_then(literal),
            at_ms: now_ms,
            is_asked: false,
        };
        self.names.insert(host.to_string(), known);
    }

    /// An address from its parts; `unresolved`: it may be a name that stands for nothing now.
    pub fn make_addr(&mut self, host: &str, port: i64, unresolved: bool) -> Result<Addr, BadAddr> {
        let port = u16::try_from(port).map_err(|_| BadAddr::Port)?;
        let ip = self.resolve(host);
        if ip.is_none() {
            self.log(
                Level::Warning,
                format!("Failed to resolve hostname '{host}'"),
            );
            if !(self.settings.resolve_hostnames && unresolved) {
                return Err(BadAddr::Name);
            }
        }
        Ok(Addr {
            host: host.to_string(),
            ip: ip.unwrap_or_default(),
            port,
        })
    }

    /// The master that is there, as far as we know.
    pub fn master_at(&mut self, host: &str, port: i64) -> Option<Id> {
        let addr = self.make_addr(host, port, true).ok()?;
        let mut masters = self.masters();
        masters.find(|master| master.addr.is(&addr)).map(|m| m.id)
    }

    /// True if the host is where `addr` is.
    pub(super) fn is_host_of(&self, addr: &Addr, host: &str) -> bool {
        match self.resolve(host) {
            Some(ip) => addr.ip.eq_ignore_ascii_case(&ip),
            None if self.settings.resolve_hostnames => addr.host.eq_ignore_ascii_case(host),
            None => addr.ip.eq_ignore_ascii_case(host),
        }
    }

    /// What others are told: the address, or the name (`announce-hostnames`).
    pub fn announced<'a>(&self, addr: &'a Addr) -> &'a str {
        match self.settings.announce_hostnames {
            true => &addr.host,
            false => &addr.ip,
        }
    }

    /// The same with the port.
    pub(super) fn announced_with_port(&self, addr: &Addr) -> String {
        let host = self.announced(addr);
        match host.contains(':') {
            true => format!("[{host}]:{}", addr.port),
            false => format!("{host}:{}", addr.port),
        }
    }
}
