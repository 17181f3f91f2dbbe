//! What the bridge's user may do with files and directories, and which part of a path is in the way.
#![forbid(unsafe_code)]

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::report::Line;
use super::vendor::{Topic, Vendor};
use crate::sys::{self, May};

/// What keeps from a path.
#[derive(Debug)]
pub struct Obstacle {
    /// The part of it that is in the way.
    at: PathBuf,
    may_not: May,
    why: io::Error,
    owned: Option<Owned>,
}

/// Whose it is.
#[derive(Debug)]
struct Owned {
    mode: u32,
    user: u32,
    group: u32,
}

/// Whether this process may do `wanted` with `path`.
///
/// # Errors
/// The first part of the path that is in the way.
pub fn walk(path: &Path, wanted: May) -> Result<(), Obstacle> {
    /// Symbolic links followed, as by the kernel.
    const LINKS: usize = 40;
    step(path, wanted, LINKS)
}

fn step(path: &Path, wanted: May, links: usize) -> Result<(), Obstacle> {
    let mut parts: Vec<_> = path.ancestors().filter(|part| !part.as_os_str().is_empty()).collect();
    parts.reverse();
    for part in parts {
        let may = if part == path { wanted } else { May::Enter };
        let Err(why) = sys::may(part, may) else { continue };
        // Behind a link it is the path that it stands for.
        if let (Ok(target), Some(left)) = (fs::read_link(part), links.checked_sub(1)) {
            step(&part.parent().unwrap_or(part).join(target), may, left)?;
        }
        let metadata = fs::metadata(part).ok();
        let owned = metadata.map(|it| Owned { mode: it.mode() & 0o7777, user: it.uid(), group: it.gid() });
        return Err(Obstacle { at: part.to_owned(), may_not: may, owned, why });
    }
    Ok(())
}

impl Obstacle {
    /// Whether it is there, but not for this user.
    pub fn is_of_rights(&self) -> bool {
        self.why.kind() == ErrorKind::PermissionDenied
    }

    /// What is in the way, and what to do about it.
    pub fn say(&self, subject: &str, path: &Path, vendor: Option<&Vendor>) -> Line {
        let what = match self.may_not {
            May::Enter => "cannot be entered",
            May::Fill => "is not for this user to make files in",
            May::Read => "cannot be read",
        };
        let of = if self.at == path { String::new() } else { format!("{}: ", path.display()) };
        let at = self.at.display();
        let Some(Owned { mode, user, group: gid }) = self.owned.as_ref().filter(|_| self.is_of_rights()) else {
            return Line::fail(subject, format!("{of}{at}: {}", self.why), "make it, or name another")
                .with("path", at.to_string());
        };
        let (owner, group) = (sys::user_name(*user), sys::group_name(*gid));
        let text = format!("{of}{at} {what} (mode {mode:04o}, owner {owner}, group {group})");
        let line = Line::fail(subject, text, "").with("path", at.to_string()).with("mode", format!("{mode:04o}"));
        let line = line.with("owner", owner).with("group", group.as_str());
        let user = sys::user_name(sys::effective_user());
        let needed = match self.may_not {
            May::Enter => 0o010,
            May::Fill => 0o030,
            May::Read => 0o040,
        };
        // Root's own group is not one to be put into.
        let hint = if mode & needed == needed && *gid != 0 {
            format!("the group {group} may: usermod -a -G {group} {user}, or SupplementaryGroups={group} in the unit")
        } else {
            match vendor.and_then(|vendor| vendor.hint(Topic::Rights)) {
                Some(hint) => hint,
                None => format!("user {user} has to; chmod, chown or setfacl give the right"),
            }
        };
        line.hint(hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn finds_the_part_of_a_path_that_is_in_the_way() {
        let scratch = std::env::temp_dir().join(format!("chb-rights-{}", std::process::id()));
        fs::create_dir_all(scratch.join("a/b")).unwrap();
        fs::write(scratch.join("a/b/file"), "x").unwrap();
        symlink("a/gone", scratch.join("link")).unwrap();
        symlink("a/b", scratch.join("good")).unwrap();
        assert!(walk(&scratch.join("a/b/file"), May::Read).is_ok());
        assert!(walk(&scratch.join("good/file"), May::Read).is_ok() && walk(&scratch.join("good"), May::Fill).is_ok());
        let at = |path: &str, may| walk(&scratch.join(path), may).unwrap_err().at;
        assert_eq!(at("a/none/file", May::Read), scratch.join("a/none"));
        assert_eq!(at("link/file", May::Read), scratch.join("a/gone"));
        assert_eq!(at("a/b/file/x", May::Read), scratch.join("a/b/file"));
        // To root all but the last is open, whatever the mode says.
        if sys::effective_user() != 0 {
            fs::set_permissions(scratch.join("a"), fs::Permissions::from_mode(0o600)).unwrap();
            let obstacle = walk(&scratch.join("a/b/file"), May::Read).unwrap_err();
            assert_eq!(obstacle.at, scratch.join("a"));
            fs::set_permissions(scratch.join("a"), fs::Permissions::from_mode(0o700)).unwrap();
        }
        fs::remove_dir_all(&scratch).unwrap();
    }
}
