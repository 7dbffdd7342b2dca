//! What a value must be beyond its type.

use super::template;
use super::types::ShutdownFlags;

fn is_base_name(name: &[u8]) -> bool {
    !name.contains(&b'/') && !name.contains(&b'\\')
}

pub fn dbfilename(name: &[u8]) -> Result<(), &'static str> {
    match is_base_name(name) {
        true => Ok(()),
        false => Err("dbfilename can't be a path, just a filename"),
    }
}

pub fn appendfilename(name: &[u8]) -> Result<(), &'static str> {
    if name.is_empty() {
        return Err("appendfilename can't be empty");
    }
    match is_base_name(name) {
        true => Ok(()),
        false => Err("appendfilename can't be a path, just a filename"),
    }
}

pub fn appenddirname(name: &[u8]) -> Result<(), &'static str> {
    if name.is_empty() {
        return Err("appenddirname can't be empty");
    }
    match is_base_name(name) {
        true => Ok(()),
        false => Err("appenddirname can't be a path, just a dirname"),
    }
}

pub fn proc_title_template(text: &[u8]) -> Result<(), &'static str> {
    match template::is_valid(text) {
        true => Ok(()),
        false => Err("template format is invalid or contains unknown variables"),
    }
}

pub fn shutdown_flags(code: u32) -> Result<(), &'static str> {
    let flags = ShutdownFlags(code);
    if flags.contains(ShutdownFlags::SAVE) && flags.contains(ShutdownFlags::NOSAVE) {
        return Err("shutdown options SAVE and NOSAVE can't be used simultaneously");
    }
    Ok(())
}

pub fn hostname(name: &[u8]) -> Result<(), &'static str> {
    if name.len() >= 256 {
        return Err("Hostnames must be less than 256 characters");
    }
    let allowed = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.');
    match name.iter().take_while(|&&b| b != 0).all(allowed) {
        true => Ok(()),
        false => Err("Hostnames may only contain alphanumeric characters, hyphens or dots"),
    }
}

pub fn nodename(name: &[u8]) -> Result<(), &'static str> {
    // The characters that separate fields in nodes.conf, and others that Redis reserves.
    match name.iter().any(|b| b"!#$%&()*+:;<>?@[]^{|}~\0".contains(b)) {
        true => Err("Announced human node name contained invalid character"),
        false => Ok(()),
    }
}
