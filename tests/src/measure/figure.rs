//! A figure, what was promised of it, and whether that holds.

use std::fmt;

use serde::ser::{Serialize, SerializeStruct as _, Serializer};

/// What was promised.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Promise {
    AtLeast(f64),
    AtMost(f64),
    /// It is told, and nothing was promised.
    None,
}

/// One thing that was measured.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Figure {
    pub(super) name: String,
    pub(super) figure: f64,
    pub(super) unit: &'static str,
    pub(super) promise: Promise,
}

impl Figure {
    pub(super) fn new(
        name: impl Into<String>,
        figure: f64,
        unit: &'static str,
        promise: Promise,
    ) -> Self {
        Self {
            name: name.into(),
            figure,
            unit,
            promise,
        }
    }

    /// None where nothing was promised.
    pub(super) fn holds(&self) -> Option<bool> {
        match self.promise {
            Promise::AtLeast(least) => Some(self.figure >= least),
            Promise::AtMost(most) => Some(self.figure <= most),
            Promise::None => None,
        }
    }
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(least) => write!(f, ">= {}", number(*least)),
            Self::AtMost(most) => write!(f, "<= {}", number(*most)),
            Self::None => Ok(()),
        }
    }
}

impl Serialize for Figure {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut figure = serializer.serialize_struct("Figure", 5)?;
        figure.serialize_field("name", &self.name)?;
        figure.serialize_field("figure", &self.figure)?;
        figure.serialize_field("unit", self.unit)?;
        let promise = self.promise.to_string();
        figure.serialize_field("promise", &(!promise.is_empty()).then_some(promise))?;
        figure.serialize_field("holds", &self.holds())?;
        figure.end()
    }
}

/// Name, figure, promise, verdict; a line each.
pub(super) fn table(figures: &[Figure]) -> String {
    let rows: Vec<[String; 4]> = figures
        .iter()
        .map(|it| {
            let verdict = match it.holds() {
                Some(true) => "holds",
                Some(false) => "DOES NOT HOLD",
                None => "",
            };
            let figure = format!("{} {}", number(it.figure), it.unit);
            [
                it.name.clone(),
                figure,
                it.promise.to_string(),
                verdict.to_owned(),
            ]
        })
        .collect();
    let width = |column: usize| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let (name, figure, promise) = (width(0), width(1), width(2));
    rows.iter()
        .map(|[a, b, c, d]| {
            format!("{a:name$}  {b:>figure$}  {c:>promise$}  {d}")
                .trim_end()
                .to_owned()
                + "\n"
        })
        .collect()
}

/// Three significant digits and no more.
fn number(figure: f64) -> String {
    let places = match figure.abs() {
        0.0 => 0,
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        _ => 3,
    };
    let text = format!("{figure:.places$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_says_which_promise_holds() {
        let figures = [
            Figure::new("apply rate of a bare loop", 812.4, "/s", Promise::None),
            Figure::new(
                "apply rate, of a bare loop's",
                0.93,
                "x",
                Promise::AtLeast(0.9),
            ),
            Figure::new("object writes", 2.0, "calls", Promise::AtMost(1.0)),
        ];
        insta::assert_snapshot!(table(&figures), @r"
        apply rate of a bare loop      812 /s
        apply rate, of a bare loop's   0.93 x  >= 0.9  holds
        object writes                 2 calls    <= 1  DOES NOT HOLD
        ");
        let json = serde_json::to_value(&figures[2]).expect("a figure is JSON");
        let expected = serde_json::json!({
            "name": "object writes", "figure": 2.0, "unit": "calls", "promise": "<= 1", "holds": false,
        });
        assert_eq!(json, expected);
    }
}
