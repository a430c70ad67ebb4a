//! Type information made for the test: what a kernel's may contain, and what a damaged file may.

use super::super::types::{Absence, Returns, Shape, Types};

/// Type information, piece by piece. Numbers of types count from 1; 0 is `void`.
#[derive(Default)]
struct Made {
    types: Vec<u32>,
    strings: Vec<u8>,
    count: u32,
}

/// A member: its name, its type, and its offset in bits.
type Member<'a> = (&'a str, u32, u32);

const INT: u32 = 1;
const POINTER: u32 = 2;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const TYPEDEF: u32 = 8;
const CONST: u32 = 10;
const FUNCTION: u32 = 12;
const PROTOTYPE: u32 = 13;

/// Says that the offsets of members have the width of bit fields in their upper byte.
const BIT_FIELDS: u32 = 1 << 31;

impl Made {
    fn string(&mut self, text: &str) -> u32 {
        if self.strings.is_empty() {
            self.strings.push(0);
        }
        if text.is_empty() {
            return 0;
        }
        let offset = self.strings.len() as u32;
        self.strings.extend_from_slice(text.as_bytes());
        self.strings.push(0);
        offset
    }

    fn push(&mut self, name: &str, info: u32, size_or_type: u32, rest: &[u32]) -> u32 {
        let name = self.string(name);
        self.types.extend([name, info, size_or_type]);
        self.types.extend(rest);
        self.count += 1;
        self.count
    }

    fn number(&mut self, name: &str, bytes: u32) -> u32 {
        self.push(name, INT << 24, bytes, &[bytes * 8])
    }

    fn refer(&mut self, kind: u32, name: &str, to: u32) -> u32 {
        self.push(name, kind << 24, to, &[])
    }

    fn composed(&mut self, kind: u32, name: &str, bytes: u32, members: &[Member<'_>]) -> u32 {
        let members: Vec<u32> = members.iter().flat_map(|(name, kind, bit)| [self.string(name), *kind, *bit]).collect();
        self.push(name, (kind & BIT_FIELDS) | ((kind & !BIT_FIELDS) << 24) | (members.len() as u32 / 3), bytes, &members)
    }

    fn function(&mut self, name: &str, returned: u32, arguments: &[u32]) {
        let arguments: Vec<u32> = arguments.iter().flat_map(|kind| [self.string("argument"), *kind]).collect();
        let prototype = self.push("", (PROTOTYPE << 24) | (arguments.len() as u32 / 2), returned, &arguments);
        self.refer(FUNCTION, name, prototype);
    }

    fn bytes(&self) -> Vec<u8> {
        let types = self.types.len() as u32 * 4;
        let header = [0x1_eb9f, 24, 0, types, types, self.strings.len() as u32];
        let numbers = header.iter().chain(&self.types).flat_map(|number| number.to_le_bytes());
        numbers.chain(self.strings.iter().copied()).collect()
    }

    fn parsed(&self) -> Types {
        Types::parse(&self.bytes()).unwrap()
    }
}

/// Turns every record of a function into a name for its prototype.
pub(super) fn hide_functions(bytes: &mut [u8]) {
    let number = |bytes: &[u8], at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let mut at = (number(bytes, 4) + number(bytes, 8)) as usize;
    let end = at + number(bytes, 12) as usize;
    while at < end {
        let info = number(bytes, at + 4);
        let (kind, count) = (info >> 24 & 0x1f, (info & 0xffff) as usize);
        if kind == FUNCTION {
            bytes[at + 4..at + 8].copy_from_slice(&(TYPEDEF << 24).to_le_bytes());
        }
        at += 12;
        at += match kind {
            INT | 14 | 17 => 4,
            3 => 12,
            STRUCT | UNION | 15 | 19 => 12 * count,
            6 | PROTOTYPE => 8 * count,
            _ => 0,
        };
    }
}

/// A struct with everything in it that a kernel's may have.
fn kernel() -> Made {
    let mut made = Made::default();
    let number = made.number("int", 4);
    let short = made.number("short", 2);
    let inode = made.composed(STRUCT, "inode", 8, &[("i_mode", short, 0)]);
    let constant = made.refer(CONST, "", inode);
    let pointer = made.refer(POINTER, "", constant);
    let named = made.refer(TYPEDEF, "inode_pointer", pointer);
    let inner = made.composed(STRUCT, "", 16, &[("d_inode", named, 0), ("d_flags", number, 64)]);
    let either = made.composed(UNION, "", 16, &[("d_other", number, 0), ("", inner, 0)]);
    let bits = made.composed(STRUCT | BIT_FIELDS, "", 8, &[("d_bit", number, 1 << 24), ("d_whole", number, 32)]);
    let name = made.composed(STRUCT, "qstr", 8, &[("len", number, 32)]);
    let dentry = [("d_lock", number, 0), ("", either, 64), ("", bits, 192), ("d_name", name, 256), ("d_far", number, 319)];
    made.composed(STRUCT, "dentry", 40, &dentry);
    made.composed(STRUCT, "twice", 8, &[("once", number, 0)]);
    made.composed(STRUCT, "twice", 8, &[("once", number, 32)]);
    let itself = made.count + 1;
    made.composed(STRUCT, "endless", 8, &[("", itself, 0), ("", itself, 0), ("", itself, 0)]);
    let name_of_itself = made.count + 1;
    made.refer(TYPEDEF, "circle", name_of_itself);
    made.composed(STRUCT, "round", 8, &[("circle", name_of_itself, 0)]);
    made.function("vfs_unlink", number, &[named, number]);
    made
}

const LOOKUPS: [(&str, Shape); 10] = [
    ("dentry.d_inode", Shape::PointerTo("inode")),
    ("dentry.d_flags", Shape::Number(4)),
    ("dentry.d_name.len", Shape::Number(4)),
    ("dentry.d_name", Shape::Struct("qstr")),
    ("dentry.d_bit", Shape::Number(4)),
    ("dentry.d_whole", Shape::Number(4)),
    ("dentry.d_far", Shape::Number(4)),
    ("twice.once", Shape::Number(4)),
    ("endless.end", Shape::Number(4)),
    ("round.circle", Shape::Pointer),
];

fn look_up_everything(types: &Types) -> (Vec<Result<u64, Absence>>, bool) {
    (LOOKUPS.iter().map(|(path, shape)| types.offset(path, *shape)).collect(), types.signature("vfs_unlink").is_ok())
}

#[test]
fn anonymous_members_are_searched_and_their_offsets_added() {
    let types = kernel().parsed();
    assert_eq!(types.offset("dentry.d_inode", Shape::PointerTo("inode")), Ok(8));
    assert_eq!(types.offset("dentry.d_flags", Shape::Number(4)), Ok(16));
    assert_eq!(types.offset("dentry.d_name", Shape::Struct("qstr")), Ok(32));
    assert_eq!(types.offset("dentry.d_name.len", Shape::Number(4)), Ok(36));
    assert_eq!(types.offset("dentry.d_whole", Shape::Number(4)), Ok(28));
}

#[test]
fn what_is_not_as_expected_is_refused_with_the_reason() {
    let types = kernel().parsed();
    let refused = |path, shape| types.offset(path, shape).unwrap_err().to_string();
    assert_eq!(refused("dentry.d_bit", Shape::Number(4)), "dentry.d_bit is not a number of 32 bits but a bit field");
    assert_eq!(refused("dentry.d_flags", Shape::Number(8)), "dentry.d_flags is not a number of 64 bits but a number of 32 bits");
    assert_eq!(
        refused("dentry.d_inode", Shape::PointerTo("file")),
        "dentry.d_inode is not a pointer to struct file but a pointer to struct inode"
    );
    assert_eq!(refused("dentry.d_far", Shape::Number(4)), "dentry.d_far is said to lie at bit 319, which cannot be");
    assert_eq!(refused("dentry.d_lock.nothing", Shape::Pointer), "dentry.d_lock is not a struct but something else");
    assert_eq!(refused("dentry.d_none", Shape::Pointer), "dentry has no member d_none");
    assert_eq!(refused("file.f_path.dentry", Shape::Pointer), "there is no struct file");
    assert_eq!(refused("twice.once", Shape::Number(4)), "there are several struct twice, and they differ");
    assert_eq!(refused("endless.end", Shape::Number(4)), "endless has no member end");
    assert_eq!(refused("round.circle", Shape::Pointer), "round.circle is not a pointer but something else");
}

#[test]
fn a_function_tells_what_it_takes_and_returns() {
    let types = kernel().parsed();
    let signature = types.signature("vfs_unlink").unwrap();
    assert_eq!(signature.arguments, ["inode", ""]);
    assert_eq!(signature.returns, Returns::Number(4));
    assert_eq!(types.signature("vfs_link"), Err(Absence::NoFunction("vfs_link".to_owned())));
}

#[test]
fn without_the_record_that_tells_it_the_release_tells_whether_an_open_is_marked() {
    let types = kernel().parsed();
    for (release, is_marked) in [("4.18.0-193.el8.x86_64", false), ("4.19.0", true), ("4.9.1", false), ("5.4.0-1", true), ("odd", false)] {
        assert_eq!(super::resolve::marks_created(release, &types), is_marked, "{release}");
    }
}

/// Every way to cut it off, and every byte changed in several ways.
#[test]
fn damage_is_an_error_or_an_absence() {
    let whole = kernel().bytes();
    let expected = look_up_everything(&Types::parse(&whole).unwrap());
    let mut understood = 0;
    let mut look = |bytes: &[u8]| {
        if let Ok(types) = Types::parse(bytes) {
            understood += usize::from(look_up_everything(&types) == expected);
        }
    };
    (0..whole.len()).for_each(|length| look(&whole[..length]));
    for at in 0..whole.len() {
        for change in [0x01, 0x02, 0x10, 0x80, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] ^= change;
            look(&bytes);
        }
    }
    assert!(understood < whole.len() * 5, "no damage was noticed");
}

/// The same at random places of this machine's own.
#[test]
fn damage_to_a_real_kernel_is_an_error_or_an_absence() {
    let Ok(whole) = std::fs::read(super::OWN) else {
        eprintln!("skipped: this kernel tells no type information");
        return;
    };
    let mut state = 0x9e37_79b9_u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for round in 0..8 {
        let mut bytes = whole.clone();
        // Spread over the file and, every other time, in the header: it tells where everything is.
        (0..40).for_each(|_| bytes[random(whole.len())] = random(256) as u8);
        if round % 2 == 1 {
            bytes[4 + random(20)] = random(256) as u8;
        }
        if round % 4 == 3 {
            bytes.truncate(random(whole.len()));
        }
        if let Ok(types) = Types::parse(&bytes) {
            super::settle("6.0.0", &types).ok();
        }
    }
}
