//! The values that a function of a type can be made to return, whatever it was written to do.

use syn::{GenericArgument, PathArguments, ReturnType, Type};

/// Expressions of the return type; empty where no value is known, such as for `impl Trait`.
pub fn of_return(output: &ReturnType) -> Vec<String> {
    match output {
        ReturnType::Default => vec!["()".into()],
        ReturnType::Type(_, ty) => of(ty),
    }
}

fn of(ty: &Type) -> Vec<String> {
    match ty {
        Type::Paren(inner) => of(&inner.elem),
        Type::Group(inner) => of(&inner.elem),
        Type::Never(_) | Type::ImplTrait(_) | Type::TraitObject(_) => Vec::new(),
        Type::Tuple(tuple) => tuple.elems.iter().map(of).fold(vec![String::new()], joined).iter().map(tupled).collect(),
        Type::Array(array) => repeated(&array.elem),
        Type::Reference(reference) => behind(&reference.elem, reference.mutability.is_some()),
        Type::Path(path) => path.path.segments.last().map(named).unwrap_or_default(),
        _ => vec![DEFAULT.into()],
    }
}

const DEFAULT: &str = "::std::default::Default::default()";

/// Every element so far, followed by every value of the next.
fn joined(so_far: Vec<String>, next: Vec<String>) -> Vec<String> {
    so_far.iter().flat_map(|before| next.iter().map(move |value| format!("{before}{value}, "))).collect()
}

fn tupled(elements: &String) -> String {
    if elements.is_empty() { "()".into() } else { format!("({elements})") }
}

fn repeated(element: &Type) -> Vec<String> {
    match of(element).as_slice() {
        [] => Vec::new(),
        values => values.iter().map(|value| format!("::std::array::from_fn(|_| {value})")).collect(),
    }
}

fn behind(target: &Type, is_mutable: bool) -> Vec<String> {
    match target {
        Type::Path(path) if path.path.is_ident("str") => vec!["\"\"".into(), "\"xyzzy\"".into()],
        Type::Slice(slice) => {
            lists(&of(&slice.elem)).iter().map(|list| format!("::std::vec::Vec::leak({list})")).collect()
        }
        other => {
            let leaked = |value: String| format!("::std::boxed::Box::leak(::std::boxed::Box::new({value}))");
            let shared = |value: String| if is_mutable { leaked(value) } else { format!("&*{}", leaked(value)) };
            of(other).into_iter().map(shared).collect()
        }
    }
}

fn lists(elements: &[String]) -> Vec<String> {
    let one = elements.iter().map(|value| format!("vec![{value}]"));
    std::iter::once("::std::vec::Vec::new()".to_owned()).chain(one).collect()
}

fn named(segment: &syn::PathSegment) -> Vec<String> {
    let arguments: Vec<Vec<String>> = match &segment.arguments {
        PathArguments::AngleBracketed(all) => all.args.iter().filter_map(type_of).map(of).collect(),
        _ => Vec::new(),
    };
    let first = arguments.first().cloned().unwrap_or_default();
    let around = |before: &str| first.iter().map(|value| format!("{before}({value})")).collect::<Vec<_>>();
    let name = segment.ident.to_string();
    match name.as_str() {
        "bool" => vec!["true".into(), "false".into()],
        "u8" | "u16" | "u32" | "u64" | "u128" | "usize" => vec!["0".into(), "1".into()],
        "i8" | "i16" | "i32" | "i64" | "i128" | "isize" => vec!["0".into(), "1".into(), "-1".into()],
        "f32" | "f64" => vec!["0.0".into(), "1.0".into(), "-1.0".into()],
        "String" => vec!["::std::string::String::new()".into(), "\"xyzzy\".into()".into()],
        "Result" if !first.is_empty() => around("::std::result::Result::Ok"),
        "Option" => {
            std::iter::once("::std::option::Option::None".into()).chain(around("::std::option::Option::Some")).collect()
        }
        "Vec" => lists(&first),
        "Box" | "Rc" | "Arc" | "Cell" | "RefCell" | "Mutex" => around(&format!("{name}::new")),
        "BTreeMap" | "HashMap" => maps(&arguments),
        "BTreeSet" | "HashSet" | "VecDeque" => collected(&first),
        _ => vec![DEFAULT.into()],
    }
}

fn type_of(argument: &GenericArgument) -> Option<&Type> {
    if let GenericArgument::Type(ty) = argument { Some(ty) } else { None }
}

fn collected(elements: &[String]) -> Vec<String> {
    let one = elements.iter().map(|value| format!("::std::iter::FromIterator::from_iter([{value}])"));
    std::iter::once(DEFAULT.to_owned()).chain(one).collect()
}

fn maps(arguments: &[Vec<String>]) -> Vec<String> {
    let [keys, values, ..] = arguments else { return vec![DEFAULT.into()] };
    let pairs: Vec<String> =
        keys.iter().flat_map(|key| values.iter().map(move |value| format!("({key}, {value})"))).collect();
    collected(&pairs)
}
