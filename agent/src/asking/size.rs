//! How large an answer may get. Pure.

use muster_proto::wire::v1;
use prost::Message as _;

/// Bytes of all objects of an answer: far below what gRPC takes.
pub(super) const LARGEST: usize = 1 << 20;
/// Fields of one object.
const FIELDS: usize = 500;
/// Bytes of one value.
const VALUE: usize = 128 << 10;

/// Cuts what is told of one object until it fits, and takes its size from the room that is left; false when it does
/// not fit.
pub(super) fn fit(object: &mut v1::ObjectComparison, room: &mut usize) -> bool {
    let more = object.fields.len().saturating_sub(FIELDS);
    object.fields.truncate(FIELDS);
    object.more_fields = u32::try_from(more).unwrap_or(u32::MAX);
    for field in &mut object.fields {
        for value in [&mut field.desired, &mut field.live].into_iter().flatten() {
            field.cut |= cut(value);
        }
    }
    if object.encoded_len() > *room && !object.live.is_empty() {
        object.live.clear();
        object.cut = true;
    }
    if object.encoded_len() > *room && !object.desired.is_empty() {
        object.desired.clear();
        object.cut = true;
    }
    let size = object.encoded_len();
    let fits = size <= *room;
    if fits {
        *room -= size;
    }
    fits
}

fn cut(value: &mut String) -> bool {
    if value.len() <= VALUE {
        return false;
    }
    value.truncate(value.floor_char_boundary(VALUE));
    value.push('…');
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(live: usize, fields: usize, value: usize) -> v1::ObjectComparison {
        let field = v1::FieldComparison {
            live: Some("ä".repeat(value)),
            ..v1::FieldComparison::default()
        };
        v1::ObjectComparison {
            live: "x".repeat(live),
            fields: vec![field; fields],
            ..v1::ObjectComparison::default()
        }
    }

    #[test]
    fn what_fits_stays_as_it_is() {
        let (mut told, mut room) = (object(1000, 3, 10), LARGEST);
        assert!(fit(&mut told, &mut room));
        assert_eq!(told, object(1000, 3, 10));
        assert_eq!(room, LARGEST - told.encoded_len());
    }

    #[test]
    fn the_whole_goes_before_its_fields_and_an_object_that_still_does_not_fit_is_left_out() {
        let (mut told, mut room) = (object(LARGEST, 3, 10), LARGEST);
        assert!(fit(&mut told, &mut room));
        assert_eq!(
            (told.live.as_str(), told.cut, told.fields.len()),
            ("", true, 3)
        );
        assert!(!fit(&mut object(0, 3, 10), &mut 20));
    }

    #[test]
    fn long_values_are_cut_and_many_fields_counted() {
        let (mut told, mut room) = (object(0, 1, LARGEST), LARGEST);
        assert!(fit(&mut told, &mut room));
        assert!(told.fields[0].cut && told.fields[0].live.as_ref().unwrap().len() < VALUE + 5);
        let mut many = object(0, FIELDS + 7, 1);
        assert!(fit(&mut many, &mut room));
        assert_eq!((many.fields.len(), many.more_fields), (FIELDS, 7));
    }
}
