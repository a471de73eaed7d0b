//! Sets that can be merged and taken back: which numbers occur, and how often.

use std::collections::BTreeMap;

use roaring::RoaringBitmap;

/// A multiset of numbers. Most members occur once, so it is a bitmap of the members and a list of those that occur
/// more often. A member that is taken out as often as it was put in is gone.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CountedSet {
    members: RoaringBitmap,
    /// How often beyond once, of those that occur more than once.
    further: BTreeMap<u32, u32>,
}

/// The stored bytes are not a set.
#[derive(Debug, thiserror::Error)]
#[error("stored set cannot be read")]
pub struct BadSet;

impl CountedSet {
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The distinct members.
    pub fn members(&self) -> &RoaringBitmap {
        &self.members
    }

    /// Puts `member` in `times` times, or takes it out for a negative number. `false` if more were taken out than
    /// are in, which leaves the set without it.
    #[must_use]
    pub fn add(&mut self, member: u32, times: i64) -> bool {
        let present = self.members.contains(member);
        let had = if present { 1 + i64::from(self.further.get(&member).copied().unwrap_or(0)) } else { 0 };
        let has = had + times;
        if has <= 0 {
            if present {
                self.members.remove(member);
                self.further.remove(&member);
            }
            return has == 0;
        }
        if !present {
            self.members.insert(member);
        }
        match u32::try_from(has - 1) {
            Ok(0) => drop(self.further.remove(&member)),
            Ok(more) => drop(self.further.insert(member, more)),
            Err(_) => return false,
        }
        true
    }

    /// `varint count, (varint member, varint further)…, roaring bitmap`; nothing for an empty set.
    pub fn to_bytes(&self) -> Vec<u8> {
        if self.is_empty() {
            return Vec::new();
        }
        let mut bytes = Vec::with_capacity(4 + self.further.len() * 4 + self.members.serialized_size());
        write_varint(self.further.len() as u64, &mut bytes);
        for (member, more) in &self.further {
            write_varint(u64::from(*member), &mut bytes);
            write_varint(u64::from(*more), &mut bytes);
        }
        // Writing to a vector cannot fail.
        let written = self.members.serialize_into(&mut bytes);
        debug_assert!(written.is_ok());
        bytes
    }

    pub fn from_bytes(mut bytes: &[u8]) -> Result<Self, BadSet> {
        if bytes.is_empty() {
            return Ok(CountedSet::default());
        }
        let mut further = BTreeMap::new();
        for _ in 0..read_varint(&mut bytes)? {
            let member = u32::try_from(read_varint(&mut bytes)?).map_err(|_| BadSet)?;
            let more = u32::try_from(read_varint(&mut bytes)?).map_err(|_| BadSet)?;
            further.insert(member, more);
        }
        let members = RoaringBitmap::deserialize_from(bytes).map_err(|_| BadSet)?;
        Ok(CountedSet { members, further })
    }

    /// The members of stored bytes, without how often they occur.
    pub fn members_of(mut bytes: &[u8]) -> Result<RoaringBitmap, BadSet> {
        if bytes.is_empty() {
            return Ok(RoaringBitmap::new());
        }
        for _ in 0..read_varint(&mut bytes)? * 2 {
            read_varint(&mut bytes)?;
        }
        RoaringBitmap::deserialize_from(bytes).map_err(|_| BadSet)
    }

    /// Adds every member of `other` as often as it occurs there.
    pub fn merge(&mut self, other: &CountedSet) {
        for member in &(&self.members & &other.members) {
            let more = 1 + other.further.get(&member).copied().unwrap_or(0);
            *self.further.entry(member).or_insert(0) += more;
        }
        for (member, more) in &other.further {
            if !self.members.contains(*member) {
                self.further.insert(*member, *more);
            }
        }
        self.members |= &other.members;
    }
}

pub(super) fn write_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(super) fn read_varint(bytes: &mut &[u8]) -> Result<u64, BadSet> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first().ok_or(BadSet)?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(BadSet)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn filled(adds: &[(u32, u8)]) -> (CountedSet, BTreeMap<u32, i64>) {
        let mut set = CountedSet::default();
        let mut truth = BTreeMap::new();
        for (member, times) in adds {
            assert!(set.add(*member, i64::from(*times)));
            *truth.entry(*member).or_insert(0) += i64::from(*times);
        }
        truth.retain(|_, n| *n > 0);
        (set, truth)
    }

    #[test]
    fn taking_out_more_than_is_in_is_told() {
        let mut set = CountedSet::default();
        assert!(!set.add(7, -1));
        assert!(set.add(7, 2) && set.add(7, -2) && set.is_empty());
    }

    proptest! {
        #[test]
        fn set_counts_like_a_map(a in prop::collection::vec((0u32..200_000, 0u8..4), 0..60), b in prop::collection::vec((0u32..200, 0u8..4), 0..60)) {
            let (mut left, mut truth) = filled(&a);
            let (right, other) = filled(&b);
            prop_assert_eq!(&CountedSet::from_bytes(&left.to_bytes()).expect("readable"), &left);
            prop_assert_eq!(&CountedSet::members_of(&left.to_bytes()).expect("readable"), left.members());
            let before = left.clone();
            left.merge(&right);
            for (member, n) in &other { *truth.entry(*member).or_insert(0) += n; }
            prop_assert_eq!(left.members().iter().collect::<Vec<_>>(), truth.keys().copied().collect::<Vec<_>>());
            for (member, n) in &other { prop_assert!(left.add(*member, -n)); }
            prop_assert_eq!(left, before);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = CountedSet::from_bytes(&bytes);
        }
    }
}
