//! Health rules of applications, compiled: CEL over one object as `self`.
//!
//! In: a [`HealthRule`] as Git states it. Out: a [`Judge`], or why an expression can't be read. The hub compiles to
//! tell who wrote it, with file and line; the agent compiles once per application to follow it. Pure.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use cel::{Context, ExecutionError, Program, Value};

use crate::HealthRule;

/// Characters of one expression.
const LONGEST: usize = 2000;
/// Parentheses, brackets and braces inside each other.
const DEEPEST: usize = 10;
/// Operators whose chains the interpreter follows by recursion.
const OPERATORS: usize = 30;
/// The parser takes tens of KiB of stack for every level.
const STACK: usize = 64 * 1024 * 1024;

/// The expressions of one kind, ready to be asked.
#[derive(Clone)]
pub struct Judge {
    failed: Option<Arc<Program>>,
    in_progress: Option<Arc<Program>>,
    current: Option<Arc<Program>>,
}

/// What the expressions say of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// `failed` is true.
    Failed,
    /// `inProgress` is true, or `current` is not.
    InProgress,
    /// `current` is true.
    Current,
    /// None of those that are stated is true: the usual rules decide.
    Silent,
}

impl HealthRule {
    /// Reads its expressions.
    ///
    /// # Errors
    /// Which expression can't be read, and why.
    pub fn compile(&self) -> Result<Judge, String> {
        if [&self.failed, &self.in_progress, &self.current]
            .iter()
            .all(|stated| stated.is_none())
        {
            return Err("says nothing: state current, inProgress or failed".into());
        }
        Ok(Judge {
            failed: compile("failed", self.failed.as_deref())?,
            in_progress: compile("inProgress", self.in_progress.as_deref())?,
            current: compile("current", self.current.as_deref())?,
        })
    }
}

impl Judge {
    /// Asks the expressions about an object. A field that is not there (yet) makes an expression false.
    ///
    /// # Errors
    /// When an expression can't be asked about this object, or its answer is neither true nor false.
    pub fn judge(&self, object: &serde_json::Value) -> Result<Verdict, String> {
        let object = value(object);
        let ask = |name: &str, program: &Option<Arc<Program>>| match program {
            None => Ok(false),
            Some(program) => ask(program, object.clone())
                .map_err(|error| format!("the health expression `{name}`: {error}")),
        };
        if ask("failed", &self.failed)? {
            Ok(Verdict::Failed)
        } else if ask("inProgress", &self.in_progress)? {
            Ok(Verdict::InProgress)
        } else if ask("current", &self.current)? {
            Ok(Verdict::Current)
        } else if self.current.is_some() {
            Ok(Verdict::InProgress)
        } else {
            Ok(Verdict::Silent)
        }
    }
}

impl fmt::Debug for Judge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Judge")
    }
}

fn compile(name: &str, source: Option<&str>) -> Result<Option<Arc<Program>>, String> {
    let Some(source) = source else {
        return Ok(None);
    };
    let wrong = |why: String| format!("{name}: {why}");
    bearable(source).map_err(wrong)?;
    let text = source.to_owned();
    let parse = move || Program::compile(&text).map_err(|error| first_line(&error.to_string()));
    let parser = std::thread::Builder::new()
        .stack_size(STACK)
        .spawn(parse)
        .map_err(|error| wrong(format!("can't be read now: {error}")))?;
    let program = parser
        .join()
        .unwrap_or_else(|_| Err("can't be read".into()))
        .map_err(wrong)?;
    // Names that nobody declares show when it is asked, also about nothing.
    match program.execute(&context(value(&serde_json::json!({})))) {
        Err(error @ ExecutionError::UndeclaredReference(_)) => {
            Err(wrong(format!("{error}: the object is called self")))
        }
        _ => Ok(Some(Arc::new(program))),
    }
}

/// The interpreter recurses: what is nested too deeply would overflow the stack, and end the program.
fn bearable(source: &str) -> Result<(), String> {
    if source.chars().count() > LONGEST {
        return Err(format!("is longer than {LONGEST} characters"));
    }
    let (mut depth, mut deepest, mut operators) = (0_usize, 0, 0_usize);
    let mut before = ' ';
    for character in source.chars() {
        match character {
            '(' | '[' | '{' => {
                depth += 1;
                deepest = deepest.max(depth);
                operators += usize::from(character == '[');
            }
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            '+' | '-' | '*' | '/' | '%' | '<' | '>' => operators += 1,
            '=' if before == '=' || before == '!' => operators += 1,
            _ => {}
        }
        before = character;
    }
    if deepest > DEEPEST {
        return Err(format!(
            "has more than {DEEPEST} parentheses inside each other"
        ));
    }
    if operators > OPERATORS {
        return Err(format!("has more than {OPERATORS} operators"));
    }
    Ok(())
}

fn context(object: Value) -> Context<'static, 'static> {
    let mut context = Context::default();
    context.add_variable_from_value("self", object);
    context
}

fn ask(program: &Program, object: Value) -> Result<bool, String> {
    match program.execute(&context(object)) {
        Ok(Value::Bool(answer)) => Ok(answer),
        Ok(other) => Err(format!(
            "answers with a {}, and not with true or false",
            other.type_of()
        )),
        // The controller has not written it yet.
        Err(ExecutionError::NoSuchKey(_) | ExecutionError::IndexOutOfBounds(_)) => Ok(false),
        // Its text may quote values.
        Err(ExecutionError::UndeclaredReference(name)) => {
            Err(format!("nothing is called {name:?}"))
        }
        Err(_) => Err("compares or combines values that do not fit".into()),
    }
}

/// Kubernetes' integers are CEL's `int`, never `uint`.
fn value(json: &serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(truth) => Value::Bool(*truth),
        serde_json::Value::Number(number) => match number.as_i64() {
            Some(integer) => Value::Int(integer),
            None => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        serde_json::Value::String(text) => Value::String(Arc::new(text.clone())),
        serde_json::Value::Array(items) => Value::List(Arc::new(items.iter().map(value).collect())),
        serde_json::Value::Object(fields) => {
            let fields: HashMap<String, Value> = fields
                .iter()
                .map(|(name, field)| (name.clone(), value(field)))
                .collect();
            Value::Map(fields.into())
        }
    }
}

/// The rest draws a picture.
fn first_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    line.trim_start_matches("ERROR: <input>:").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn rule(failed: &str, in_progress: &str, current: &str) -> HealthRule {
        let stated = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        HealthRule {
            group: "shop.io".into(),
            kind: "Cart".into(),
            failed: stated(failed),
            in_progress: stated(in_progress),
            current: stated(current),
        }
    }

    #[test]
    fn expressions_are_asked_in_their_order() {
        let judge = rule(
            "self.status.phase == 'Broken'",
            "self.status.replicas < self.spec.replicas - 1",
            "self.status.conditions.exists(c, c.type == 'Ok' && c.status == 'True')",
        );
        let judge = judge.compile().unwrap();
        let ok = json!([{"type": "Ok", "status": "True"}]);
        let table = [
            (json!({}), Verdict::InProgress),
            (
                json!({"status": {"phase": "Broken", "conditions": ok}}),
                Verdict::Failed,
            ),
            (
                json!({"spec": {"replicas": 3}, "status": {"phase": "", "replicas": 1, "conditions": ok}}),
                Verdict::InProgress,
            ),
            (
                json!({"spec": {"replicas": 3}, "status": {"phase": "", "replicas": 2, "conditions": ok}}),
                Verdict::Current,
            ),
            (json!({"status": {"conditions": []}}), Verdict::InProgress),
        ];
        for (object, expected) in table {
            assert_eq!(judge.judge(&object), Ok(expected), "{object}");
        }
        let only_failed = rule("self.status.bad", "", "").compile().unwrap();
        assert_eq!(
            only_failed.judge(&json!({"status": {"bad": false}})),
            Ok(Verdict::Silent)
        );
    }

    #[test]
    fn what_can_not_be_read_or_asked_says_which_and_why() {
        let deep = format!("{}true{}", "(".repeat(11), ")".repeat(11));
        let many = vec!["1"; 40].join("==");
        let long = "x".repeat(2001);
        for (source, part) in [
            ("self.status.phase = 'x'", "current: 1:19: Syntax error"),
            (
                "slef.ok",
                "current: Undeclared reference to 'slef': the object is called self",
            ),
            (&deep, "current: has more than 10 parentheses"),
            (&many, "current: has more than 30 operators"),
            (&long, "current: is longer than 2000"),
        ] {
            let error = rule("", "", source).compile().unwrap_err();
            assert!(error.starts_with(part), "{error}");
        }
        let nothing = rule("", "", "").compile().unwrap_err();
        assert_eq!(nothing, "says nothing: state current, inProgress or failed");

        let object = json!({"status": {"phase": "hunter2"}});
        let asked = |source: &str| rule("", "", source).compile().unwrap().judge(&object);
        assert_eq!(
            asked("self.status.phase").unwrap_err(),
            "the health expression `current`: answers with a string, and not with true or false"
        );
        let unfit = asked("self.status.phase - 1 == 2").unwrap_err();
        assert!(!unfit.contains("hunter2"), "{unfit}");
    }

    #[test]
    fn the_most_that_is_borne_does_not_overflow_the_stack_of_a_thread() {
        let nested = |open: &str, close: &str| {
            format!("{}true{}", open.repeat(DEEPEST), close.repeat(DEEPEST))
        };
        let sums = vec!["1"; OPERATORS].join("+");
        let sources = [
            nested("(", ")"),
            nested("[1].exists(x, ", ")"),
            format!("{}{sums} == 1{}", "(".repeat(DEEPEST), ")".repeat(DEEPEST)),
            vec!["true"; 300].join("&&"),
            format!("{}true", "!".repeat(1900)),
            format!("self{}", ".a".repeat(900)),
            format!("self{}", "[0]".repeat(OPERATORS)),
            format!("{}true", "true?true:".repeat(150)),
        ];
        for source in sources {
            if let Ok(judge) = rule("", "", &source).compile() {
                let _ = judge.judge(&json!({"a": 1}));
            }
        }
    }

    proptest! {
        #[test]
        fn nothing_that_people_write_panics(source in "(self|status|true|exists|size|in|x|[a-z.(),!&|?:=+\\-*/<>\\[\\]{}'\"0-9 ]){0,20}") {
            if let Ok(judge) = rule("", "", &source).compile() {
                let _ = judge.judge(&json!({"status": {"x": [1, "a", null]}}));
            }
        }
    }
}
