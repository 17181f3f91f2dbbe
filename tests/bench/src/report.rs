//! What was measured, as a table for people and as JSON for programs.

use std::fmt::Write as _;

/// What is to be reached, and what was.
#[derive(Clone, Debug)]
pub struct Target {
    what: String,
    measured: f64,
    limit: f64,
    unit: &'static str,
    at_most: bool,
    /// What something without the bridge reaches in the same run, and what that is: no bridge does better but by chance.
    reach: Option<(&'static str, f64)>,
}

/// One line of the table.
#[derive(Clone, Debug)]
pub struct Row {
    section: &'static str,
    what: String,
    values: Vec<(&'static str, f64)>,
}

/// Everything that was measured.
#[derive(Default)]
pub struct Report {
    rows: Vec<Row>,
    targets: Vec<Target>,
}

impl Report {
    /// Adds a line; columns are called by what they hold and its unit.
    pub fn row(&mut self, section: &'static str, what: impl Into<String>, values: &[(&'static str, f64)]) {
        let row = Row { section, what: what.into(), values: values.to_vec() };
        let last = self.rows.last();
        if last.is_none_or(|last| last.section != section || columns(last) != columns(&row)) {
            println!("\n{:34}{}", section, columns(&row).iter().map(|name| format!(" {name:>13}")).collect::<String>());
        }
        println!("{}", line(&row));
        self.rows.push(row);
    }

    pub fn at_most(&mut self, what: &str, unit: &'static str, measured: f64, limit: f64) {
        self.targets.push(Target { what: what.to_owned(), measured, limit, unit, at_most: true, reach: None });
    }

    pub fn at_least(&mut self, what: &str, unit: &'static str, measured: f64, limit: f64) -> &mut Self {
        self.targets.push(Target { what: what.to_owned(), measured, limit, unit, at_most: false, reach: None });
        self
    }

    /// What `who` reaches of the last target.
    pub fn within_reach_of(&mut self, who: &'static str, reaches: f64) {
        if let Some(target) = self.targets.last_mut() {
            target.reach = Some((who, reaches));
        }
    }

    /// The targets, met and missed.
    pub fn print_targets(&self) {
        if self.targets.is_empty() {
            return;
        }
        println!("\n{:52} {:>12} {:>14}", "target", "measured", "limit");
        for target in &self.targets {
            let Target { what, measured, limit, unit, at_most, .. } = target;
            let sign = if *at_most { "<=" } else { ">=" };
            println!("{what:52} {:>12} {sign} {:>11} {unit:5} {}", number(*measured), number(*limit), target.verdict());
        }
    }

    /// An object with an array of rows and one of targets.
    pub fn json(&self) -> String {
        let rows: Vec<_> = self.rows.iter().map(row_json).collect();
        let targets: Vec<_> = self.targets.iter().map(target_json).collect();
        format!("{{\n\"rows\": [\n{}\n],\n\"targets\": [\n{}\n]\n}}\n", rows.join(",\n"), targets.join(",\n"))
    }
}

impl Target {
    fn is_met(&self) -> bool {
        if self.at_most { self.measured <= self.limit } else { self.measured >= self.limit }
    }

    fn verdict(&self) -> String {
        if self.is_met() {
            return "met".to_owned();
        }
        let missed = format!("missed by {:.1} %", (self.measured / self.limit - 1.0).abs() * 100.0);
        self.reach.map_or(missed.clone(), |(who, reaches)| format!("{missed}; {who} reaches {}", number(reaches)))
    }
}

fn columns(row: &Row) -> Vec<&'static str> {
    row.values.iter().map(|(name, _)| *name).collect()
}

fn line(row: &Row) -> String {
    let mut line = format!("{:34}", row.what);
    for (_, value) in &row.values {
        let _ = write!(line, " {:>13}", number(*value));
    }
    line
}

/// With as many digits as are of interest.
fn number(value: f64) -> String {
    match value.abs() {
        _ if value.is_nan() => "-".to_owned(),
        size if size >= 1000.0 || value.fract() == 0.0 => format!("{value:.0}"),
        size if size >= 100.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn row_json(row: &Row) -> String {
    let mut json = format!("{{\"section\": {:?}, \"what\": {:?}", row.section, row.what);
    for (name, value) in &row.values {
        let _ = write!(json, ", {name:?}: {}", number_json(*value));
    }
    json + "}"
}

fn target_json(target: &Target) -> String {
    let Target { what, measured, limit, unit, at_most, reach } = target;
    let reach = reach.map_or(String::new(), |(who, reaches)| format!(", {who:?}: {}", number_json(reaches)));
    format!(
        "{{\"what\": {what:?}, \"unit\": {unit:?}, \"measured\": {}, \"{}\": {}, \"met\": {}{reach}}}",
        number_json(*measured),
        if *at_most { "at most" } else { "at least" },
        number_json(*limit),
        target.is_met()
    )
}

/// JSON has no word for what is not a number.
fn number_json(value: f64) -> String {
    if value.is_finite() { value.to_string() } else { "null".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_met_on_their_side_of_the_limit() {
        let mut report = Report::default();
        report.at_most("a", "ms", 11.0, 10.0);
        report.at_least("b", "/s", 11.0, 10.0);
        assert_eq!(report.targets[0].verdict(), "missed by 10.0 %");
        assert_eq!(report.targets[1].verdict(), "met");
        report.at_least("c", "%", 9.0, 10.0).within_reach_of("bare", 9.5);
        assert_eq!(report.targets[2].verdict(), "missed by 10.0 %; bare reaches 9.50");
    }

    #[test]
    fn json_holds_rows_and_targets() {
        let mut report = Report::default();
        report.row("part", "some\"thing", &[("p50 µs", 1.5), ("rate", f64::NAN)]);
        report.at_most("a", "ms", 1.0, 2.0);
        let json = report.json();
        assert!(json.contains(r#"{"section": "part", "what": "some\"thing", "p50 µs": 1.5, "rate": null}"#), "{json}");
        assert!(json.contains(r#""measured": 1, "at most": 2, "met": true"#), "{json}");
    }
}
