//! Protocol versions (KMIP 1.2, section 6.1) and what is done with those of others.
#![forbid(unsafe_code)]

use std::fmt;

/// A protocol version. The order is that of age.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Before the dot. Versions of different majors do not understand each other.
    pub major: i32,
    /// Behind the dot. A later one only adds.
    pub minor: i32,
}

impl Version {
    /// 1.0
    pub const V1_0: Self = Self { major: 1, minor: 0 };
    /// 1.1
    pub const V1_1: Self = Self { major: 1, minor: 1 };
    /// 1.2
    pub const V1_2: Self = Self { major: 1, minor: 2 };
    /// 1.3
    pub const V1_3: Self = Self { major: 1, minor: 3 };
    /// 1.4
    pub const V1_4: Self = Self { major: 1, minor: 4 };

    /// What this program speaks, best first, as Discover Versions ranks it.
    pub const SPOKEN: [Self; 5] = [Self::V1_4, Self::V1_3, Self::V1_2, Self::V1_1, Self::V1_0];

    /// The version in which a request of this version is answered: its own, if spoken; the last that is spoken for a later
    /// minor, whose additions are ignored (section 11.1, "unknown field"); none for another major.
    pub fn answered_in(self) -> Option<Self> {
        if self.major != 1 || self.minor < 0 {
            return None;
        }
        Some(self.min(Self::V1_4))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_in_the_requests_version_or_the_last_of_its_major() {
        for version in Version::SPOKEN {
            assert_eq!(version.answered_in(), Some(version));
        }
        assert_eq!(Version { major: 1, minor: 9 }.answered_in(), Some(Version::V1_4));
        for (major, minor) in [(0, 9), (2, 0), (9, 31), (-1, 2), (1, -1)] {
            assert_eq!(Version { major, minor }.answered_in(), None);
        }
    }
}
