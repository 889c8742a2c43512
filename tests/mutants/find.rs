//! Every mutant of a source file, as cargo-mutants would make them, where a switch at run time can choose between the
//! two.
//!
//! Left out: tests, code behind a feature, constants and `const fn` (no switch can be read there), `Display`, `Debug` and
//! `Default`, bodies that only log, `async fn`, functions that return `impl Trait`, arguments of macros, and `&&` that
//! joins a `let`.

use crate::values;
use std::ops::Range;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Attribute, BinOp, Block, Expr, Signature, UnOp};

/// One change of one place.
#[derive(Clone, Debug)]
pub struct Mutant {
    /// Its number within the sample, from 1; 0 before it is drawn.
    pub id: u32,
    /// From the root of the tree.
    pub file: String,
    pub line: usize,
    /// `Type::name` or `<Trait for Type>::name`.
    pub function: String,
    pub kind: &'static str,
    /// In words, with the code as it was.
    pub change: String,
    /// The bytes of the function around it.
    pub within: Range<usize>,
    pub edit: Edit,
}

impl Mutant {
    /// The name that stays while lines move.
    pub fn name(&self) -> String {
        format!("{} {}: {}", self.file, self.function, self.change)
    }

    pub fn folder(&self) -> &str {
        self.file.split('/').nth(1).unwrap_or_default()
    }
}

/// The change of the text.
#[derive(Clone, Debug)]
pub enum Edit {
    /// The body that begins at this byte returns the value at once.
    Return { at: usize, value: String },
    /// Another operator between the two sides.
    Binary { whole: Range<usize>, left: Range<usize>, right: Range<usize>, operator: &'static str },
    /// The operator before the operand is gone.
    Unary { whole: Range<usize>, operand: Range<usize> },
    /// The guard of a match arm is always so.
    Guard { whole: Range<usize>, value: bool },
    /// The arm whose pattern ends here matches nothing.
    Arm { at: usize },
}

/// All mutants of a file, in the order of their places.
pub fn in_file(path: &str, text: &str) -> syn::Result<Vec<Mutant>> {
    let file = syn::parse_file(text)?;
    let mut finder = Finder { path, text, around: Vec::new(), functions: Vec::new(), found: Vec::new() };
    finder.visit_file(&file);
    Ok(finder.found)
}

struct Finder<'a> {
    path: &'a str,
    text: &'a str,
    /// The types and traits that the functions belong to.
    around: Vec<String>,
    functions: Vec<(String, Range<usize>)>,
    found: Vec<Mutant>,
}

fn bytes(node: &impl Spanned) -> Range<usize> {
    node.span().byte_range()
}

/// Whether the code is only built for tests, or only with a feature.
fn is_conditional(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| attribute.path().is_ident("cfg") || attribute.path().is_ident("test"))
}

/// Whether a `let` is a part of the condition: such a chain is no value.
fn holds_let(expr: &Expr) -> bool {
    match expr {
        Expr::Let(_) => true,
        Expr::Binary(binary) => holds_let(&binary.left) || holds_let(&binary.right),
        Expr::Paren(paren) => holds_let(&paren.expr),
        _ => false,
    }
}

fn is_log(statement: &syn::Stmt) -> bool {
    const LEVELS: [&str; 5] = ["trace", "debug", "info", "warn", "error"];
    let name = match statement {
        syn::Stmt::Macro(statement) => statement.mac.path.segments.last(),
        syn::Stmt::Expr(Expr::Macro(expr), _) => expr.mac.path.segments.last(),
        _ => None,
    };
    name.is_some_and(|name| LEVELS.iter().any(|level| name.ident == level))
}

fn others(operator: &BinOp) -> (&'static str, &'static [&'static str]) {
    match operator {
        BinOp::Eq(_) => ("==", &["!="]),
        BinOp::Ne(_) => ("!=", &["=="]),
        BinOp::And(_) => ("&&", &["||"]),
        BinOp::Or(_) => ("||", &["&&"]),
        BinOp::Lt(_) => ("<", &["==", ">", "<="]),
        BinOp::Gt(_) => (">", &["==", "<", ">="]),
        BinOp::Le(_) => ("<=", &[">", "<"]),
        BinOp::Ge(_) => (">=", &["<", ">"]),
        BinOp::Add(_) => ("+", &["-", "*"]),
        BinOp::Sub(_) => ("-", &["+", "/"]),
        BinOp::Mul(_) => ("*", &["+", "/"]),
        BinOp::Div(_) => ("/", &["%", "*"]),
        BinOp::Rem(_) => ("%", &["/", "+"]),
        BinOp::BitAnd(_) => ("&", &["|", "^"]),
        BinOp::BitOr(_) => ("|", &["&", "^"]),
        BinOp::BitXor(_) => ("^", &["|", "&"]),
        BinOp::Shl(_) => ("<<", &[">>"]),
        BinOp::Shr(_) => (">>", &["<<"]),
        BinOp::AddAssign(_) => ("+=", &["-=", "*="]),
        BinOp::SubAssign(_) => ("-=", &["+=", "/="]),
        BinOp::MulAssign(_) => ("*=", &["+=", "/="]),
        BinOp::DivAssign(_) => ("/=", &["%=", "*="]),
        BinOp::BitAndAssign(_) => ("&=", &["|=", "^="]),
        BinOp::BitOrAssign(_) => ("|=", &["&=", "^="]),
        _ => ("", &[]),
    }
}

impl Finder<'_> {
    /// The code in one line, and not too long.
    fn code(&self, range: &Range<usize>) -> String {
        let words = self.text.get(range.clone()).unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
        match words.char_indices().nth(70) {
            Some((end, _)) => format!("{}…", &words[..end]),
            None => words,
        }
    }

    fn add(&mut self, at: usize, kind: &'static str, change: String, edit: Edit) {
        let Some((function, within)) = self.functions.last().cloned() else { return };
        let line = self.text[..at].matches('\n').count() + 1;
        self.found.push(Mutant { id: 0, file: self.path.to_owned(), line, function, kind, change, within, edit });
    }

    fn function(
        &mut self,
        attributes: &[Attribute],
        signature: &Signature,
        block: &Block,
        walk: impl FnOnce(&mut Self),
    ) {
        if is_conditional(attributes) || signature.constness.is_some() || signature.asyncness.is_some() {
            return;
        }
        let mut name = signature.ident.to_string();
        if let Some(around) = self.around.last() {
            name = format!("{around}::{name}");
        }
        self.functions.push((name, bytes(block)));
        if !block.stmts.is_empty() && !block.stmts.iter().all(is_log) {
            let at = bytes(block).start + 1;
            let body = self.code(&bytes(block));
            for value in values::of_return(&signature.output) {
                if body == format!("{{ {value} }}") {
                    continue;
                }
                let shown = value.replace("::std::default::", "");
                let shown = ["string", "option", "result", "vec", "boxed", "iter", "array"]
                    .iter()
                    .fold(shown, |shown, module| shown.replace(&format!("::std::{module}::"), ""));
                self.add(at, "body", format!("return `{shown}` at once"), Edit::Return { at, value });
            }
        }
        walk(self);
        self.functions.pop();
    }

    fn binary(&mut self, node: &syn::ExprBinary) {
        if holds_let(&node.left) || holds_let(&node.right) {
            return;
        }
        let (whole, left, right) = (bytes(node), bytes(&node.left), bytes(&node.right));
        let (was, others) = others(&node.op);
        for &operator in others {
            let change = format!("`{was}` to `{operator}` in `{}`", self.code(&whole));
            let edit = Edit::Binary { whole: whole.clone(), left: left.clone(), right: right.clone(), operator };
            self.add(bytes(&node.op).start, "operator", change, edit);
        }
    }

    fn arms(&mut self, node: &syn::ExprMatch) {
        let is_rest = |arm: &syn::Arm| matches!(arm.pat, syn::Pat::Wild(_)) && arm.guard.is_none();
        let has_rest = node.arms.iter().any(is_rest);
        for arm in &node.arms {
            let pattern = bytes(&arm.pat);
            match &arm.guard {
                Some((_, guard)) if !holds_let(guard) => {
                    for value in [true, false] {
                        let whole = bytes(guard);
                        let change = format!("guard `{}` to `{value}`", self.code(&whole));
                        self.add(whole.start, "guard", change, Edit::Guard { whole: whole.clone(), value });
                    }
                }
                None if has_rest && !is_rest(arm) => {
                    let change = format!("arm `{}` removed", self.code(&pattern));
                    self.add(pattern.start, "arm", change, Edit::Arm { at: pattern.end });
                }
                _ => {}
            }
        }
    }
}

impl<'ast> Visit<'ast> for Finder<'_> {
    fn visit_item_mod(&mut self, node: &'ast syn::ItemMod) {
        if !is_conditional(&node.attrs) {
            visit::visit_item_mod(self, node);
        }
    }

    fn visit_item_impl(&mut self, node: &'ast syn::ItemImpl) {
        let of = node.trait_.as_ref().and_then(|(_, path, _)| path.segments.last()).map(|last| last.ident.to_string());
        if is_conditional(&node.attrs)
            || of.as_ref().is_some_and(|of| ["Display", "Debug", "Default"].contains(&of.as_str()))
        {
            return;
        }
        let own = match &*node.self_ty {
            syn::Type::Path(path) => path.path.segments.last().map(|last| last.ident.to_string()).unwrap_or_default(),
            other => self.code(&bytes(other)),
        };
        self.around.push(of.map_or(own.clone(), |of| format!("<{of} for {own}>")));
        visit::visit_item_impl(self, node);
        self.around.pop();
    }

    fn visit_item_trait(&mut self, node: &'ast syn::ItemTrait) {
        if !is_conditional(&node.attrs) {
            self.around.push(node.ident.to_string());
            visit::visit_item_trait(self, node);
            self.around.pop();
        }
    }

    fn visit_item_fn(&mut self, node: &'ast syn::ItemFn) {
        let around = std::mem::take(&mut self.around);
        self.function(&node.attrs, &node.sig, &node.block, |finder| visit::visit_block(finder, &node.block));
        self.around = around;
    }

    fn visit_impl_item_fn(&mut self, node: &'ast syn::ImplItemFn) {
        self.function(&node.attrs, &node.sig, &node.block, |finder| visit::visit_block(finder, &node.block));
    }

    fn visit_trait_item_fn(&mut self, node: &'ast syn::TraitItemFn) {
        if let Some(block) = &node.default {
            self.function(&node.attrs, &node.sig, block, |finder| visit::visit_block(finder, block));
        }
    }

    fn visit_expr_binary(&mut self, node: &'ast syn::ExprBinary) {
        self.binary(node);
        visit::visit_expr_binary(self, node);
    }

    fn visit_expr_unary(&mut self, node: &'ast syn::ExprUnary) {
        let sign = match node.op {
            UnOp::Not(_) => "!",
            UnOp::Neg(_) => "-",
            _ => "",
        };
        if !sign.is_empty() {
            let (whole, operand) = (bytes(node), bytes(&node.expr));
            let change = format!("`{sign}` removed from `{}`", self.code(&whole));
            self.add(whole.start, "operator", change, Edit::Unary { whole: whole.clone(), operand });
        }
        visit::visit_expr_unary(self, node);
    }

    fn visit_expr_match(&mut self, node: &'ast syn::ExprMatch) {
        self.arms(node);
        visit::visit_expr_match(self, node);
    }

    fn visit_local(&mut self, node: &'ast syn::Local) {
        if !is_conditional(&node.attrs) {
            visit::visit_local(self, node);
        }
    }

    // No switch can be read in these.
    fn visit_item_const(&mut self, _: &'ast syn::ItemConst) {}
    fn visit_item_static(&mut self, _: &'ast syn::ItemStatic) {}
    fn visit_impl_item_const(&mut self, _: &'ast syn::ImplItemConst) {}
    fn visit_trait_item_const(&mut self, _: &'ast syn::TraitItemConst) {}
    fn visit_expr_const(&mut self, _: &'ast syn::ExprConst) {}
    fn visit_expr_repeat(&mut self, node: &'ast syn::ExprRepeat) {
        self.visit_expr(&node.expr);
    }
    fn visit_type(&mut self, _: &'ast syn::Type) {}
    fn visit_pat(&mut self, _: &'ast syn::Pat) {}
    fn visit_attribute(&mut self, _: &'ast Attribute) {}
    fn visit_generics(&mut self, _: &'ast syn::Generics) {}
    fn visit_path(&mut self, _: &'ast syn::Path) {}
}
