//! Mergeable, reversible multisets: members and their multiplicities.

use std::collections::BTreeMap;

use roaring::RoaringBitmap;

use super::varint::{BadBytes, read_unsigned, write_unsigned};

/// A multiset of numbers. Most members occur once, so it is a bitmap of members plus a list of extra multiplicities. A
/// member removed as often as it was added is gone.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CountedSet {
    members: RoaringBitmap,
    /// Multiplicity minus one, for members that occur more than once.
    further: BTreeMap<u32, u32>,
}

impl CountedSet {
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The distinct members.
    pub fn members(&self) -> &RoaringBitmap {
        &self.members
    }

    /// Those of `members` that are in the set, with their multiplicities.
    pub fn times_of(&self, members: &RoaringBitmap) -> Vec<(u32, i64)> {
        let found = &self.members & members;
        found.iter().map(|member| (member, self.times(member))).collect()
    }

    /// The multiplicity of a member.
    fn times(&self, member: u32) -> i64 {
        1 + i64::from(self.further.get(&member).copied().unwrap_or(0))
    }

    /// Adds `member` `times` times, or removes it if negative. Returns `false` if more were removed than present, which
    /// leaves the set without it.
    #[must_use]
    pub fn add(&mut self, member: u32, times: i64) -> bool {
        let present = self.members.contains(member);
        let had = if present { self.times(member) } else { 0 };
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

    /// `varint count, (varint member, varint further)…, roaring bitmap`; empty for an empty set.
    pub fn to_bytes(&self) -> Vec<u8> {
        if self.is_empty() {
            return Vec::new();
        }
        let mut bytes = Vec::with_capacity(4 + self.further.len() * 4 + self.members.serialized_size());
        write_unsigned(self.further.len() as u64, &mut bytes);
        for (member, more) in &self.further {
            write_unsigned(u64::from(*member), &mut bytes);
            write_unsigned(u64::from(*more), &mut bytes);
        }
        // Writing to a vector cannot fail.
        let written = self.members.serialize_into(&mut bytes);
        debug_assert!(written.is_ok());
        bytes
    }

    pub fn from_bytes(mut bytes: &[u8]) -> Result<Self, BadBytes> {
        if bytes.is_empty() {
            return Ok(CountedSet::default());
        }
        let mut further = BTreeMap::new();
        for _ in 0..read_unsigned(&mut bytes)? {
            let member = u32::try_from(read_unsigned(&mut bytes)?).map_err(|_| BadBytes)?;
            let more = u32::try_from(read_unsigned(&mut bytes)?).map_err(|_| BadBytes)?;
            further.insert(member, more);
        }
        let members = RoaringBitmap::deserialize_from(bytes).map_err(|_| BadBytes)?;
        Ok(CountedSet { members, further })
    }

    /// The members in stored bytes, without multiplicities.
    pub fn members_of(mut bytes: &[u8]) -> Result<RoaringBitmap, BadBytes> {
        if bytes.is_empty() {
            return Ok(RoaringBitmap::new());
        }
        for _ in 0..read_unsigned(&mut bytes)? * 2 {
            read_unsigned(&mut bytes)?;
        }
        RoaringBitmap::deserialize_from(bytes).map_err(|_| BadBytes)
    }

    /// Adds every member of `other` with its multiplicity there.
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
            prop_assert_eq!(left.times_of(left.members()), truth.iter().map(|(member, times)| (*member, *times)).collect::<Vec<_>>());
            for (member, n) in &other { prop_assert!(left.add(*member, -n)); }
            prop_assert_eq!(left, before);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = CountedSet::from_bytes(&bytes);
        }
    }
}
