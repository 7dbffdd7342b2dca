//! The process's title, as `ps` shows it: `proc-title-template` filled in, over the command line.
//!
//! The kernel shows the bytes where it once put argv. The environment's strings lie right behind them,
//! and so there is room for a longer title once they are moved away: [`ProcTitle::take_over`] copies
//! them and points `environ` at the copies. Where the area begins and ends, /proc/self/stat knows.

use std::ffi::{CStr, c_char};

use crate::config::template;

/// Longer titles are cut.
const TITLE_MAX: usize = 255;

/// What a template's variables stand for.
#[derive(Debug, Clone, Copy, Default)]
pub struct TitleVars<'a> {
    /// `{title}`: the program as it was called.
    pub title: &'a str,
    /// The first of `bind`, if any.
    pub bind: Option<&'a str>,
    /// `{port}`, 0 for none.
    pub port: u16,
    /// `{tls-port}`, 0 for none.
    pub tls_port: u16,
    /// `{unixsocket}`, empty for none.
    pub unixsocket: &'a str,
    /// `{config-file}`, `None` shown as `-`.
    pub config_file: Option<&'a str>,
    /// `{server-mode}`: is it a cluster's node?
    pub cluster: bool,
    /// `{server-mode}`: is it a Sentinel?
    pub sentinel: bool,
}

impl TitleVars<'_> {
    fn get(&self, name: &str) -> Option<String> {
        let port = if self.port != 0 {
            self.port
        } else {
            self.tls_port
        };
        Some(match name {
            "title" => self.title.to_string(),
            "listen-addr" if port != 0 => format!("{}:{port}", self.bind.unwrap_or("*")),
            "listen-addr" => format!("unixsocket:{}", self.unixsocket),
            "server-mode" if self.cluster => "[cluster]".to_string(),
            "server-mode" if self.sentinel => "[sentinel]".to_string(),
            "server-mode" => String::new(),
            "config-file" => self.config_file.unwrap_or("-").to_string(),
            "port" => self.port.to_string(),
            "tls-port" => self.tls_port.to_string(),
            "unixsocket" => self.unixsocket.to_string(),
            _ => return None,
        })
    }
}

/// The template filled in; `None` if it is not valid.
pub fn expand(template: &str, vars: &TitleVars) -> Option<String> {
    let value = |name: &str| vars.get(name).map(String::into_bytes);
    String::from_utf8(template::expand(template.as_bytes(), value)?).ok()
}

/// The memory that the kernel shows as the command line.
#[derive(Debug)]
pub struct ProcTitle {
    start: *mut u8,
    len: usize,
}

impl ProcTitle {
    /// Finds the area and moves the environment out of it. To be called once, after the arguments were
    /// copied (`std::env::args` reads the area) and before any thread is started; `None` if another
    /// thread runs already, or the system does not tell.
    pub fn take_over() -> Option<ProcTitle> {
        if std::fs::read_dir("/proc/self/task").ok()?.count() != 1 {
            return None;
        }
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        let [start, end] = argument_area(&stat)?;
        // SAFETY: there is no other thread, so nobody reads or writes the environment meanwhile.
        unsafe { move_environment(start, end) };
        Some(ProcTitle {
            start: start as *mut u8,
            len: end - start,
        })
    }

    /// Shows `title`. What is left of the old one is overwritten with zeros.
    pub fn set(&mut self, title: &str) {
        let n = title.len().min(TITLE_MAX).min(self.len.saturating_sub(1));
        // SAFETY: the area is the process's own argument and environment strings, writable memory of
        // `len` bytes which nothing refers to any more (see `take_over`).
        unsafe {
            self.start.write_bytes(0, self.len);
            self.start.copy_from_nonoverlapping(title.as_ptr(), n);
        }
    }
}

/// The first byte of the arguments and the first one after the environment, out of /proc/self/stat
/// (fields 48 to 51). The two areas must adjoin.
fn argument_area(stat: &str) -> Option<[usize; 2]> {
    // The second field is the program's name in parentheses, which may hold blanks and parentheses.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let field = |n: usize| fields.get(n - 3)?.parse::<usize>().ok();
    let (start, arg_end, env_start, end) = (field(48)?, field(49)?, field(50)?, field(51)?);
    (start != 0 && start < arg_end && arg_end == env_start && env_start <= end)
        .then_some([start, end])
}

/// Gives `environ` copies of all strings that lie between `start` and `end`.
///
/// # Safety
/// No other thread may use the environment during the call.
unsafe fn move_environment(start: usize, end: usize) {
    unsafe extern "C" {
        static mut environ: *mut *mut c_char;
    }
    // SAFETY: `environ` is a null-terminated array of C strings, and nobody else uses it now. The
    // copies are never freed, as the strings of a process's start never are.
    unsafe {
        let mut at = environ;
        while !at.is_null() && !(*at).is_null() {
            if (start..end).contains(&(*at as usize)) {
                *at = CStr::from_ptr(*at).to_owned().into_raw();
            }
            at = at.add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vars() -> TitleVars<'static> {
        TitleVars {
            title: "redis-server",
            bind: Some("127.0.0.1"),
            port: 6380,
            unixsocket: "/s",
            ..Default::default()
        }
    }

    #[test]
    fn templates() {
        let v = vars();
        let get = |t| expand(t, &v);
        let default = get("{title} {listen-addr} {server-mode}");
        assert_eq!(default.as_deref(), Some("redis-server 127.0.0.1:6380"));
        assert_eq!(
            get("a{{b}} {port}/{tls-port}").as_deref(),
            Some("a{b}} 6380/0")
        );
        assert_eq!(get("{config-file} {unixsocket}").as_deref(), Some("- /s"));
        assert_eq!(get("{nope}"), None);
        assert_eq!(get("x{"), None);
        assert_eq!(get("x{title"), None);
        let v = TitleVars {
            port: 0,
            cluster: true,
            ..v
        };
        assert_eq!(
            expand("{listen-addr}", &v).as_deref(),
            Some("unixsocket:/s")
        );
        assert_eq!(
            expand("{listen-addr} {server-mode}", &v).unwrap(),
            "unixsocket:/s [cluster]"
        );
        let v = TitleVars {
            tls_port: 7,
            bind: None,
            ..v
        };
        assert_eq!(expand("{listen-addr}", &v).as_deref(), Some("*:7"));
    }

    #[test]
    fn the_area_is_read_past_odd_names() {
        let zeros = "0 ".repeat(44);
        let stat = format!("12 (a) b) S {zeros}1000 1020 1020 1500 0\n");
        assert_eq!(argument_area(&stat), Some([1000, 1500]));
        let apart = format!("12 (a) S {zeros}1000 1020 1030 1500 0\n");
        assert_eq!(argument_area(&apart), None);
        let own = std::fs::read_to_string("/proc/self/stat").unwrap();
        assert!(argument_area(&own).is_some());
    }
}
