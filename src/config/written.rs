//! The configuration file as written: its values by key, not yet judged, and what is odd about its form.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::ops::Range;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use super::keys;
use super::nearest::{distance, nearest};
use super::problem::Problem;

/// What the file says, and what has been found wrong with it so far.
#[derive(Debug)]
pub struct Written<'a> {
    text: &'a str,
    /// Whether the file is TOML; if not, nothing can be said of its keys.
    pub is_toml: bool,
    paths: Vec<&'static str>,
    values: BTreeMap<&'static str, Spanned<DeValue<'a>>>,
    lists: BTreeMap<&'static str, Spanned<DeValue<'a>>>,
    /// What may not be as it is.
    pub problems: Vec<Problem>,
    /// What may be as it is, but had better not.
    pub warnings: Vec<Problem>,
}

/// One table of a list.
pub struct Entry<T> {
    /// For messages about it.
    pub subject: String,
    /// The line that it begins in.
    pub line: usize,
    /// What it holds.
    pub value: T,
}

impl<'a> Written<'a> {
    /// Reads `text`. Whatever can be read of it is there, even if some of it is wrong.
    pub fn parse(text: &'a str) -> Written<'a> {
        let paths = keys::all().iter().map(|key| key.path).collect();
        let mut written = Written {
            text,
            is_toml: true,
            paths,
            values: BTreeMap::new(),
            lists: BTreeMap::new(),
            problems: Vec::new(),
            warnings: Vec::new(),
        };
        match DeTable::parse(text) {
            Ok(table) => written.table("", table.into_inner()),
            Err(error) => {
                written.is_toml = false;
                let (line, column) = position(text, error.span().unwrap_or_default().start);
                let subject = format!("line {line}, column {column}");
                let what = error.message().trim().replace('\n', ", ");
                written.problems.push(Problem { subject, what, line: None });
            }
        }
        written
    }

    /// Whether the file gives a value for the key.
    pub fn has(&self, path: &str) -> bool {
        self.values.contains_key(path)
    }

    /// The value of the key, if the file gives one and it is of the right type; `wanted` says what the right type is.
    pub fn value<T: Deserialize<'a>>(&mut self, path: &'static str, wanted: &str) -> Option<T> {
        let value = self.values.get(path)?.clone();
        let wrong = wrong_type(value.get_ref(), wanted);
        match T::deserialize(ValueDeserializer::from(value)) {
            Ok(value) => Some(value),
            Err(_) => {
                self.problem(path, wrong);
                None
            }
        }
    }

    /// The tables of a list that can be read, as in `[[client]]`; what is wrong with others is noted.
    pub fn tables<T: Deserialize<'a>>(&mut self, name: &'static str) -> Vec<Entry<T>> {
        let Some(list) = self.lists.remove(name) else { return Vec::new() };
        let line = self.line(list.span());
        let DeValue::Array(tables) = list.into_inner() else {
            self.problem_at(name, line, format!("is not a list of tables, which [[{name}]] begins"));
            return Vec::new();
        };
        let mut entries = Vec::new();
        for (number, table) in (1_usize..).zip(tables) {
            let (subject, line) = (format!("{name} {number}"), self.line(table.span()));
            match T::deserialize(ValueDeserializer::from(table)) {
                Ok(value) => entries.push(Entry { subject, line, value }),
                Err(error) => self.problem_at(&subject, line, error.message().trim().replace('\n', ", ")),
            }
        }
        entries
    }

    /// Notes that something is wrong in a line of the file.
    pub fn problem_at(&mut self, subject: &str, line: usize, what: String) {
        self.problems.push(Problem { subject: subject.to_owned(), what, line: Some(line) });
    }

    /// Notes that something is wrong with the value of the key.
    pub fn problem(&mut self, path: &str, what: impl Into<String>) {
        let problem = self.note(path, what.into());
        self.problems.push(problem);
    }

    /// Notes that something is odd about the value of the key.
    pub fn warning(&mut self, path: &str, what: impl Into<String>) {
        let warning = self.note(path, what.into());
        self.warnings.push(warning);
    }

    fn note(&self, path: &str, what: String) -> Problem {
        let line = self.values.get(path).map(|value| self.line(value.span()));
        Problem { subject: path.to_owned(), what, line }
    }

    fn line(&self, span: Range<usize>) -> usize {
        position(self.text, span.start).0
    }

    /// Sorts the entries of the table at `prefix` (empty, or ending in a dot) to the keys that they are for.
    fn table(&mut self, prefix: &str, table: DeTable<'a>) {
        for (name, value) in table {
            let line = Some(self.line(name.span()));
            let name = name.into_inner();
            let subject = format!("{prefix}{name}");
            let hyphenated = name.replace('_', "-");
            let path = format!("{prefix}{hyphenated}");
            let inner = format!("{path}.");
            let is_table = self.paths.iter().any(|known| known.starts_with(&inner));
            let key = self.paths.iter().copied().find(|known| *known == path);
            let older = (is_table || key.is_some()) && hyphenated != name;
            if older {
                let what = format!("is the older spelling of {hyphenated}");
                self.warnings.push(Problem { subject: subject.clone(), what, line });
            }
            let list = keys::LISTS.iter().find(|list| **list == path);
            if let Some(list) = list {
                self.lists.insert(list, value);
                continue;
            }
            let what = match (key, value.get_ref()) {
                (Some(key), _) if self.has(key) => format!("the same as {key}, which is there too"),
                (Some(key), _) => {
                    self.values.insert(key, value);
                    continue;
                }
                (None, DeValue::Table(_)) if is_table => {
                    if let DeValue::Table(table) = value.into_inner() {
                        self.table(&inner, table);
                    }
                    continue;
                }
                (None, other) if is_table => wrong_type(other, "a table"),
                (None, other) => self.unknown(prefix, &path, other.is_table()),
            };
            self.problems.push(Problem { subject, what, line });
        }
    }

    /// What to say of a key or table that is not known.
    fn unknown(&self, prefix: &str, path: &str, is_table: bool) -> String {
        let tables = self.paths.iter().filter_map(|path| path.rsplit_once('.')).map(|(table, _)| table);
        if is_table {
            return match nearest(path, tables) {
                Some(table) => format!("unknown table, the nearest is [{table}]"),
                None => "unknown table".to_owned(),
            };
        }
        // A key may be misspelt, or stand in the wrong table.
        let last = |path: &'static str| path.rsplit_once('.').map_or(path, |(_, last)| last);
        let name = path.strip_prefix(prefix).unwrap_or(path);
        let near = nearest(path, self.paths.iter().copied()).or_else(|| {
            let name = nearest(name, self.paths.iter().copied().map(last))?;
            self.paths.iter().copied().filter(|path| last(path) == name).min_by_key(|known| distance(known, path))
        });
        match near {
            Some(key) => format!("unknown key, the nearest is {key}"),
            None => {
                let here: Vec<_> = self.paths.iter().filter_map(|path| path.strip_prefix(prefix)).collect();
                format!("unknown key, known here are {}", here.join(", "))
            }
        }
    }
}

/// Text as the messages show it: in quotes, on one line, not too long.
pub fn quoted(text: &str) -> String {
    const MOST: usize = 80;
    let mut shown: String = text.chars().take(MOST).flat_map(char::escape_debug).collect();
    if text.chars().nth(MOST).is_some() {
        shown.push_str("...");
    }
    format!("\"{shown}\"")
}

fn wrong_type(value: &DeValue<'_>, wanted: &str) -> String {
    match value {
        DeValue::String(text) => format!("{} is a string, not {wanted}", quoted(text)),
        DeValue::Integer(number) => format!("{} is not {wanted}", number.as_str()),
        DeValue::Boolean(value) => format!("{value} is not {wanted}"),
        DeValue::Float(number) => format!("{} is not {wanted}", number.as_str()),
        DeValue::Datetime(time) => format!("{time} is not {wanted}"),
        DeValue::Array(_) => format!("is an array, not {wanted}"),
        DeValue::Table(_) => format!("is a table, not {wanted}"),
    }
}

/// Line and column, both from 1, of a byte of `text`.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count().saturating_add(1);
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count().saturating_add(1);
    (line, column)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        Written::parse(text).problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn finds_values_by_key() {
        let mut written =
            Written::parse("version = 'v1'\n[server.tls]\nnames = ['a', 'b']\n[server]\nmax-connections = 7");
        assert_eq!(written.value::<String>("version", "text").as_deref(), Some("v1"));
        assert_eq!(written.value::<Vec<String>>("server.tls.names", "names").unwrap(), ["a", "b"]);
        assert_eq!(written.value::<i128>("server.max-connections", "a number"), Some(7));
        assert_eq!(written.value::<String>("server.addr", "text"), None);
        assert!(written.problems.is_empty() && written.warnings.is_empty());
    }

    #[test]
    fn tells_line_and_column_of_a_syntax_error() {
        let found = problems("version = \"v1\"\n[server\naddr = 1\n");
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("line 2, column 8: "), "{}", found[0]);
    }

    #[test]
    fn tells_a_wrong_type_with_what_was_found() {
        let mut written = Written::parse("[server]\nmax-connections = 'many'\naddr = 5696\nidentity = 1\n");
        written.value::<i128>("server.max-connections", "a whole number");
        written.value::<String>("server.addr", "an address");
        let found: Vec<_> = written.problems.iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            [
                "server.identity: 1 is not a table (line 4)",
                "server.max-connections: \"many\" is a string, not a whole number (line 2)",
                "server.addr: 5696 is not an address (line 3)",
            ]
        );
    }

    #[test]
    fn names_the_nearest_key_for_an_unknown_one() {
        let found = problems("[server]\nmax-conections = 1\nlib-path = 'x'\nzzzzzzzzzzzz = 1\n[deamon]\n[other.x]\n");
        assert_eq!(found[0], "deamon: unknown table, the nearest is [daemon] (line 5)");
        assert_eq!(found[1], "other: unknown table (line 6)");
        assert_eq!(found[2], "server.lib-path: unknown key, the nearest is pkcs11.lib-path (line 3)");
        assert_eq!(found[3], "server.max-conections: unknown key, the nearest is server.max-connections (line 2)");
        assert!(found[4].starts_with("server.zzzzzzzzzzzz: unknown key, known here are addr, "));
        assert_eq!(problems("addr = 'x'")[0], "addr: unknown key, the nearest is server.addr (line 1)");
    }

    #[test]
    fn accepts_older_spellings_with_a_warning() {
        let mut written = Written::parse("[pkcs11]\nlib_path = '/x.so'\n[daemon]\nlog_target = { type = 'syslog' }\n");
        assert_eq!(written.value::<String>("pkcs11.lib-path", "a path").as_deref(), Some("/x.so"));
        assert_eq!(written.value::<String>("daemon.log-target.type", "a word").as_deref(), Some("syslog"));
        let warnings: Vec<_> = written.warnings.iter().map(ToString::to_string).collect();
        assert_eq!(
            warnings,
            [
                "daemon.log_target: is the older spelling of log-target (line 4)",
                "pkcs11.lib_path: is the older spelling of lib-path (line 2)",
            ]
        );
        assert!(written.problems.is_empty());
    }

    #[test]
    fn refuses_a_key_in_both_spellings() {
        let found = problems("[pkcs11]\nlib-path = '/x.so'\nlib_path = '/y.so'\n");
        assert_eq!(found, ["pkcs11.lib_path: the same as pkcs11.lib-path, which is there too (line 3)"]);
    }

    #[test]
    fn shows_odd_text_on_one_line() {
        assert_eq!(quoted("a\n\"b\""), "\"a\\n\\\"b\\\"\"");
        assert_eq!(quoted(&"x".repeat(100)), format!("\"{}...\"", "x".repeat(80)));
    }
}
