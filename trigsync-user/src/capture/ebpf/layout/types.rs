//! The kernel's type information: where a field lies in its struct, and what a function takes and returns.
//!
//! - A field is found by its names; anonymous structs and unions on the way have none and are searched.
//! - A field that is not what its reader expects (a bit field, another size, a pointer to something else) is not found.
//! - Several types of one name count as one as long as they agree; where they do not, nothing is found.
//! - Damaged input is an error or a field that is not found, never a panic.

use std::fmt;

use btf_rs::{Btf, BtfType, FuncProto, Struct, Type};

/// Names and qualifiers of one type, one after the other: more is damage, such as a name that stands for itself.
const MOST_QUALIFIERS: usize = 16;

/// Anonymous members of one struct, those in each other included: more is damage, such as a struct that holds itself.
const MOST_ANONYMOUS: u32 = 1000;

/// A field beyond this is not one of the kernel's: its structs are far smaller.
const LARGEST_OFFSET: u64 = 64 * 1024;

/// Bytes of a pointer.
const POINTER: u64 = 8;

/// The types of one kernel.
pub struct Types(Btf);

/// What a field must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A pointer to the struct of this name.
    PointerTo(&'static str),
    /// A pointer to whatever.
    Pointer,
    /// A number of so many bytes.
    Number(u64),
    /// The struct of this name itself.
    Struct(&'static str),
}

/// Why a field or a function was not found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Absence {
    /// No struct has the first name.
    #[error("there is no struct {0}")]
    NoStruct(String),
    /// No member has one of the further names.
    #[error("{within} has no member {member}")]
    NoMember {
        /// The path up to where the search ended.
        within: String,
        /// What was looked for there.
        member: String,
    },
    /// The field is there, and is something else.
    #[error("{path} is not {expected} but {found}")]
    OtherShape {
        /// The field.
        path: String,
        /// What was expected.
        expected: String,
        /// What it is.
        found: String,
    },
    /// The field is there, at a place where it cannot be.
    #[error("{path} is said to lie at bit {bit}, which cannot be")]
    Misplaced {
        /// The field.
        path: String,
        /// Where, in bits from the beginning of the struct.
        bit: u64,
    },
    /// Types of one name disagree.
    #[error("there are several {0}, and they differ")]
    Ambiguous(String),
    /// No function of this name is recorded.
    #[error("the type information has no record of {0}")]
    NoFunction(String),
}

/// What a function takes and returns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// For each argument the name of the struct that it points to; empty for everything else.
    pub arguments: Vec<String>,
    /// What it returns.
    pub returns: Returns,
}

/// What a function returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Returns {
    /// Nothing, or what none of the functions here returns.
    Other,
    /// A number of so many bytes.
    Number(u64),
    /// A pointer.
    Pointer,
}

impl Types {
    /// Reads type information in the format of `/sys/kernel/btf/vmlinux`.
    pub fn parse(bytes: &[u8]) -> Result<Self, btf_rs::Error> {
        Btf::from_bytes(bytes).map(Self)
    }

    /// Offset in bytes of a field such as `file.f_path.dentry`: the name of a struct, and those of the members on the way.
    pub fn offset(&self, path: &str, shape: Shape) -> Result<u64, Absence> {
        let (name, members) = path.split_once('.').ok_or_else(|| Absence::NoStruct(path.to_owned()))?;
        let mut found = None;
        let mut absence = Absence::NoStruct(name.to_owned());
        for candidate in self.named(name) {
            let Type::Struct(outer) = candidate else { continue };
            match self.offset_in(&outer, name, members, shape) {
                Ok(offset) if found.is_some_and(|found| found != offset) => return Err(Absence::Ambiguous(format!("struct {name}"))),
                Ok(offset) => found = Some(offset),
                Err(reason) => absence = reason,
            }
        }
        found.ok_or(absence)
    }

    /// What the function of this name takes and returns.
    pub fn signature(&self, function: &str) -> Result<Signature, Absence> {
        let mut found = None;
        for candidate in self.named(function) {
            let Type::Func(record) = candidate else { continue };
            let Ok(Type::FuncProto(prototype)) = self.0.resolve_chained_type(&record) else { continue };
            let signature = self.signature_of(&prototype);
            if found.as_ref().is_some_and(|found| *found != signature) {
                return Err(Absence::Ambiguous(format!("functions {function}")));
            }
            found = Some(signature);
        }
        found.ok_or_else(|| Absence::NoFunction(function.to_owned()))
    }

    /// The number by which the kernel knows the record of a function.
    pub fn function_id(&self, function: &str) -> Option<u32> {
        let ids = self.0.resolve_ids_by_name(function).ok()?;
        ids.into_iter().find(|id| matches!(self.0.resolve_type_by_id(*id), Ok(Type::Func(_))))
    }

    fn named(&self, name: &str) -> Vec<Type> {
        let ids = self.0.resolve_ids_by_name(name).unwrap_or_default();
        ids.into_iter().filter_map(|id| self.0.resolve_type_by_id(id).ok()).collect()
    }

    fn offset_in(&self, outer: &Struct, name: &str, members: &str, shape: Shape) -> Result<u64, Absence> {
        let path = format!("{name}.{members}");
        let mut within = name.to_owned();
        let mut current = outer.clone();
        let mut bit = 0;
        let mut names = members.split('.').peekable();
        while let Some(member) = names.next() {
            let Some(found) = self.member(&current, member, &mut { MOST_ANONYMOUS }) else {
                return Err(Absence::NoMember { within, member: member.to_owned() });
            };
            bit += found.bit;
            within = format!("{within}.{member}");
            if names.peek().is_none() {
                let here = if found.is_bit_field { Found::BitField } else { self.shape_of(&found.kind) };
                if !here.fits(shape) {
                    return Err(Absence::OtherShape { path, expected: shape.to_string(), found: here.to_string() });
                }
                return place(bit, here.size(), here.alignment(), outer.size() as u64).ok_or(Absence::Misplaced { path, bit });
            }
            current = match self.unqualified(found.kind) {
                Type::Struct(inner) | Type::Union(inner) => inner,
                _ => return Err(Absence::OtherShape { path: within, expected: "a struct".to_owned(), found: "something else".to_owned() }),
            };
        }
        Err(Absence::NoMember { within, member: String::new() })
    }

    /// A member by its name, in the struct itself or in an anonymous member of it, of which `left` are searched.
    fn member(&self, within: &Struct, name: &str, left: &mut u32) -> Option<Member> {
        for member in &within.members {
            let bit = u64::from(member.bit_offset());
            let own = self.0.resolve_name(member).ok()?;
            if !own.is_empty() && own != name {
                continue;
            }
            let Ok(kind) = self.0.resolve_chained_type(member) else { continue };
            if own == name {
                return Some(Member { bit, is_bit_field: member.bitfield_size().is_some_and(|bits| bits != 0), kind });
            }
            *left = left.checked_sub(1)?;
            if let Type::Struct(inner) | Type::Union(inner) = self.unqualified(kind)
                && let Some(found) = self.member(&inner, name, left)
            {
                return Some(Member { bit: bit + found.bit, ..found });
            }
        }
        None
    }

    fn shape_of(&self, kind: &Type) -> Found {
        match self.unqualified(kind.clone()) {
            Type::Ptr(pointer) => Found::Pointer(self.pointee(&pointer)),
            Type::Int(number) => Found::Number(number.size() as u64),
            Type::Enum(number) => Found::Number(number.size() as u64),
            Type::Enum64(number) => Found::Number(number.size() as u64),
            Type::Struct(inner) => Found::Struct(self.0.resolve_name(&inner).unwrap_or_default(), inner.size() as u64),
            _ => Found::Other,
        }
    }

    /// Name of the struct that a pointer points to; empty where it points to anything else.
    fn pointee(&self, pointer: &dyn BtfType) -> String {
        match self.0.resolve_chained_type(pointer).map(|target| self.unqualified(target)) {
            Ok(Type::Struct(target)) => self.0.resolve_name(&target).unwrap_or_default(),
            Ok(Type::Fwd(target)) if target.is_struct() => self.0.resolve_name(&target).unwrap_or_default(),
            _ => String::new(),
        }
    }

    /// The type behind names and qualifiers. What is nested too deep to be true stays as it is, and fits no shape.
    fn unqualified(&self, mut kind: Type) -> Type {
        for _ in 0..MOST_QUALIFIERS {
            let next = match &kind {
                Type::Typedef(inner) => self.0.resolve_chained_type(inner),
                Type::Volatile(inner) | Type::Const(inner) | Type::Restrict(inner) => self.0.resolve_chained_type(inner),
                Type::TypeTag(inner) => self.0.resolve_chained_type(inner),
                _ => return kind,
            };
            match next {
                Ok(next) => kind = next,
                Err(_) => return kind,
            }
        }
        kind
    }

    fn signature_of(&self, prototype: &FuncProto) -> Signature {
        let argument = |parameter| match self.0.resolve_chained_type(parameter).map(|kind| self.unqualified(kind)) {
            Ok(Type::Ptr(pointer)) => self.pointee(&pointer),
            _ => String::new(),
        };
        let returns = match self.0.resolve_type_by_id(prototype.return_type_id()).map(|kind| self.shape_of(&kind)) {
            Ok(Found::Pointer(_)) => Returns::Pointer,
            Ok(Found::Number(bytes)) => Returns::Number(bytes),
            _ => Returns::Other,
        };
        Signature { arguments: prototype.parameters.iter().map(argument).collect(), returns }
    }
}

/// A member of a struct, where `bit` counts from the beginning of the struct that was searched.
struct Member {
    bit: u64,
    is_bit_field: bool,
    kind: Type,
}

/// Where a field begins, in bytes, if it can be there: whole bytes, as its type is aligned, and inside its struct.
fn place(bit: u64, size: u64, alignment: u64, whole: u64) -> Option<u64> {
    let offset = bit / 8;
    let is_plausible = bit.is_multiple_of(8) && offset.is_multiple_of(alignment) && offset + size <= whole && offset < LARGEST_OFFSET;
    is_plausible.then_some(offset)
}

/// What a field is.
enum Found {
    Pointer(String),
    Number(u64),
    Struct(String, u64),
    BitField,
    Other,
}

impl Found {
    fn fits(&self, shape: Shape) -> bool {
        match (self, shape) {
            (Self::Pointer(to), Shape::PointerTo(name)) => to == name,
            (Self::Pointer(_), Shape::Pointer) => true,
            (Self::Number(bytes), Shape::Number(expected)) => *bytes == expected,
            (Self::Struct(own, _), Shape::Struct(name)) => own == name,
            _ => false,
        }
    }

    fn size(&self) -> u64 {
        match self {
            Self::Pointer(_) => POINTER,
            Self::Number(bytes) | Self::Struct(_, bytes) => *bytes,
            Self::BitField | Self::Other => 0,
        }
    }

    fn alignment(&self) -> u64 {
        match self {
            Self::Number(bytes) => (*bytes).clamp(1, POINTER),
            _ => POINTER,
        }
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pointer(to) if to.is_empty() => f.write_str("a pointer to something else"),
            Self::Pointer(to) => write!(f, "a pointer to struct {to}"),
            Self::Number(bytes) => write!(f, "a number of {} bits", bytes * 8),
            Self::Struct(name, _) => write!(f, "struct {name}"),
            Self::BitField => f.write_str("a bit field"),
            Self::Other => f.write_str("something else"),
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PointerTo(name) => write!(f, "a pointer to struct {name}"),
            Self::Pointer => f.write_str("a pointer"),
            Self::Number(bytes) => write!(f, "a number of {} bits", bytes * 8),
            Self::Struct(name) => write!(f, "struct {name}"),
        }
    }
}

impl fmt::Display for Returns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Other => f.write_str("nothing that is known"),
            Self::Number(bytes) => write!(f, "a number of {} bits", bytes * 8),
            Self::Pointer => f.write_str("a pointer"),
        }
    }
}
