//! A socket of a client program, of either kind: the program that waits has the standard library's, the one that does not
//! has mio's.

use std::io::{self, Read, Write};

/// See the head of the file.
pub enum Socket<T, U> {
    Tcp(T),
    Unix(U),
}

impl<T: Read, U: Read> Read for Socket<T, U> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(socket) => socket.read(buf),
            Socket::Unix(socket) => socket.read(buf),
        }
    }
}

impl<T: Write, U: Write> Write for Socket<T, U> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(socket) => socket.write(buf),
            Socket::Unix(socket) => socket.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Socket::Tcp(socket) => socket.flush(),
            Socket::Unix(socket) => socket.flush(),
        }
    }
}
