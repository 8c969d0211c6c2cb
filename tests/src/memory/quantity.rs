//! Quantities in the form the server writes them: `1000m` is `1`, `1024Mi` is `1Gi`, `0.5` is `500m`.
//!
//! In: what a client wrote. Out: the canonical text; what can't be read stays as it is. Rules: the type
//! `resource.Quantity` in Kubernetes' API reference.

use serde_json::Value;

const DECIMAL: [(&str, i32); 10] = [
    ("n", -9),
    ("u", -6),
    ("m", -3),
    ("", 0),
    ("k", 3),
    ("M", 6),
    ("G", 9),
    ("T", 12),
    ("P", 15),
    ("E", 18),
];
const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];

/// The canonical form.
#[must_use]
pub fn canonical(value: Value) -> Value {
    let text = match &value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return value,
    };
    parse(&text).map_or(value, Value::from)
}

fn parse(text: &str) -> Option<String> {
    let (sign, unsigned) = match text.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let end = unsigned
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let fraction = fraction.trim_end_matches('0');
    let digits: i128 = format!("0{whole}{fraction}").parse().ok()?;
    let scale = -i32::try_from(fraction.len()).ok()?;
    if let Some(power) = BINARY.iter().skip(1).position(|s| *s == suffix) {
        let factor = 1024i128.checked_pow(u32::try_from(power + 1).ok()?)?;
        let divisor = 10i128.checked_pow(scale.unsigned_abs())?;
        let product = digits.checked_mul(factor)?;
        if product % divisor == 0 {
            return Some(format!("{sign}{}", binary(product / divisor)));
        }
        return None;
    }
    if let Some(exponent) = suffix
        .strip_prefix(['e', 'E'])
        .and_then(|e| e.parse::<i32>().ok())
    {
        return Some(format!("{sign}{}", exponential(digits, scale + exponent)));
    }
    let (_, exponent) = DECIMAL.iter().find(|(s, _)| *s == suffix)?;
    let (digits, suffix) = decimal(digits, scale + exponent)?;
    Some(format!("{sign}{digits}{suffix}"))
}

fn binary(mut number: i128) -> String {
    let mut power = 0;
    while number != 0 && number % 1024 == 0 && power + 1 < BINARY.len() {
        number /= 1024;
        power += 1;
    }
    format!("{number}{}", BINARY[power])
}

/// The number with as few digits as whole thousands allow.
fn thousands(mut digits: i128, mut exponent: i32) -> Option<(i128, i32)> {
    if digits == 0 {
        return Some((0, 0));
    }
    while digits % 10 == 0 {
        digits /= 10;
        exponent += 1;
    }
    while exponent.rem_euclid(3) != 0 {
        digits = digits.checked_mul(10)?;
        exponent -= 1;
    }
    Some((digits, exponent))
}

fn decimal(digits: i128, exponent: i32) -> Option<(i128, &'static str)> {
    let (digits, exponent) = thousands(digits, exponent)?;
    let (suffix, _) = DECIMAL.iter().find(|(_, e)| *e == exponent)?;
    Some((digits, suffix))
}

fn exponential(digits: i128, exponent: i32) -> String {
    match thousands(digits, exponent) {
        Some((digits, 0)) => digits.to_string(),
        Some((digits, exponent)) => format!("{digits}e{exponent}"),
        None => format!("{digits}e{exponent}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn quantities_are_written_as_the_server_writes_them() {
        let cases = [
            (json!("1000m"), "1"),
            (json!("1500m"), "1500m"),
            (json!("0.5"), "500m"),
            (json!(2), "2"),
            (json!(0.25), "250m"),
            (json!("1024Mi"), "1Gi"),
            (json!("1.5Gi"), "1536Mi"),
            (json!("100Mi"), "100Mi"),
            (json!("1000"), "1k"),
            (json!("1e3"), "1e3"),
            (json!("0"), "0"),
            (json!("-5m"), "-5m"),
            (json!("garbage"), "garbage"),
        ];
        for (given, expected) in cases {
            assert_eq!(canonical(given.clone()), json!(expected), "{given}");
        }
    }
}
