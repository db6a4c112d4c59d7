use proptest::prelude::*;

use super::*;

fn fields(body: &[u8]) -> Result<Vec<(u32, String)>, ProtoError> {
    let mut cursor = Cursor::new(body);
    let mut found = Vec::new();
    while let Some(field) = cursor.next()? {
        let value = if let Ok(number) = field.varint() {
            number.to_string()
        } else if let Ok(double) = field.double() {
            format!("{double:?}")
        } else if let Ok(span) = field.span() {
            format!("{:x?}", span.of(body))
        } else {
            "fixed32".to_owned()
        };
        found.push((field.number, value));
    }
    Ok(found)
}

#[test]
fn fields_of_every_wire_type_are_read_and_groups_are_skipped() {
    let body = [
        0x08, 0x96, 0x01, // 1: varint 150
        0x12, 0x02, 0xaa, 0xbb, // 2: two bytes
        0x1d, 1, 0, 0, 0, // 3: fixed32
        0x23, 0x08, 0x01, 0x2b, 0x2c, 0x24, // 4: a group holding a varint and an empty group 5
        0x31, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f, // 6: double 1.0
    ];
    let found = fields(&body).unwrap();
    let wanted = [(1, "150"), (2, "[aa, bb]"), (3, "fixed32"), (6, "1.0")];
    assert_eq!(found, wanted.map(|(n, v)| (n, v.to_owned())));
}

#[test]
fn every_fault_is_named_with_its_offset() {
    let table: [(&[u8], ProtoError); 12] = [
        (&[0x08], ProtoError::Truncated { offset: 1 }),
        (&[0x08, 0x80], ProtoError::Truncated { offset: 2 }),
        (&[0x0a, 0x05, 1], ProtoError::Truncated { offset: 2 }),
        (&[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], ProtoError::Truncated { offset: 11 }),
        (&[0x09, 1, 2, 3], ProtoError::Truncated { offset: 1 }),
        (&[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02], ProtoError::Varint { offset: 1 }),
        (&[0x00], ProtoError::Tag { offset: 0 }),
        (&[0x0e], ProtoError::Tag { offset: 0 }),
        (&[0x08, 0x01, 0x0c], ProtoError::Tag { offset: 2 }),
        (&[0x0b, 0x14], ProtoError::Tag { offset: 1 }),
        (&[0x0b, 0x08, 0x01], ProtoError::Truncated { offset: 0 }),
        (&[0x0b; 40], ProtoError::Depth { offset: 16 }),
    ];
    for (body, wanted) in table {
        assert_eq!(fields(body), Err(wanted), "{body:x?}");
    }
    let field = Cursor::new(&[0x08, 0x01]).next().unwrap().unwrap();
    assert_eq!(field.span(), Err(ProtoError::WireType { field: 1, offset: 2 }));
}

#[test]
fn repeated_numbers_are_read_packed_and_one_by_one() {
    let body = [0x0a, 0x03, 0x01, 0x96, 0x01, 0x08, 0x07];
    let mut cursor = Cursor::new(&body);
    let mut found = Vec::new();
    while let Some(field) = cursor.next().unwrap() {
        field.varints(&body, |n| found.push(n)).unwrap();
    }
    assert_eq!(found, [1, 150, 7]);
    let body = [0x0a, 0x02, 0x01, 0x96];
    let field = Cursor::new(&body).next().unwrap().unwrap();
    assert_eq!(field.varints(&body, |_| {}), Err(ProtoError::Truncated { offset: 4 }));
}

#[test]
fn the_length_before_a_string_counts_only_in_its_shortest_form() {
    let long = [0x5a; 300];
    let body = [&[0x0a, 0x02, 7, 8, 0x0a, 0x82, 0x00, 7, 8, 0x0a, 0x00, 0x0a, 0xac, 0x02][..], &long].concat();
    let mut cursor = Cursor::new(&body);
    let mut found = Vec::new();
    while let Some(field) = cursor.next().unwrap() {
        found.push(field.span().unwrap().with_length(&body).map(|bytes| bytes.len()));
    }
    assert_eq!(found, [Some(3), None, Some(1), Some(302)]);
}

#[test]
fn zigzag_reaches_both_ends() {
    assert_eq!([0, 1, 2, 3, u64::MAX - 1, u64::MAX].map(zigzag), [0, -1, 1, -2, i64::MAX, i64::MIN]);
}

proptest! {
    #[test]
    fn no_bytes_make_the_cursor_panic_or_read_past_the_end(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut cursor = Cursor::new(&body);
        while let Ok(Some(field)) = cursor.next() {
            prop_assert!(cursor.position() <= body.len());
            if let Ok(span) = field.span() {
                prop_assert!(span.of(&body).len() == span.len());
                let _ = field.varints(&body, |_| {});
                let _ = field.doubles(&body, |_| {});
            }
        }
    }
}
