//! Variable-length integers: seven bits per byte, little-endian; signed ones by zigzag.

use crate::error::Error;

/// The stored bytes of a rollup are corrupt.
#[derive(Debug, thiserror::Error)]
#[error("stored rollup cannot be read")]
pub struct BadBytes;

impl From<BadBytes> for Error {
    fn from(error: BadBytes) -> Self {
        Error::internal(error)
    }
}

pub fn write_unsigned(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub fn read_unsigned(bytes: &mut &[u8]) -> Result<u64, BadBytes> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first().ok_or(BadBytes)?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(BadBytes)
}

pub fn write_signed(value: i64, out: &mut Vec<u8>) {
    write_unsigned(((value << 1) ^ (value >> 63)) as u64, out);
}

pub fn read_signed(bytes: &mut &[u8]) -> Result<i64, BadBytes> {
    let zigzag = read_unsigned(bytes)?;
    Ok((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64))
}

/// Length-prefixed bytes.
pub fn write_bytes(value: &[u8], out: &mut Vec<u8>) {
    write_unsigned(value.len() as u64, out);
    out.extend_from_slice(value);
}

pub fn read_bytes<'a>(bytes: &mut &'a [u8]) -> Result<&'a [u8], BadBytes> {
    let len = usize::try_from(read_unsigned(bytes)?).map_err(|_| BadBytes)?;
    let (value, rest) = bytes.split_at_checked(len).ok_or(BadBytes)?;
    *bytes = rest;
    Ok(value)
}
