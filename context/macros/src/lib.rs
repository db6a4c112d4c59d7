//! `#[kymo_context::main]`, kept free of a parser for Rust: one keyword and one block of the function are rewritten.

use proc_macro::{Delimiter, Group, Ident, Literal, Punct, Spacing, Span, TokenStream, TokenTree};

/// Runs an `async fn main` on tokio, inside the global context; see `kymo_context::main`.
#[proc_macro_attribute]
pub fn main(options: TokenStream, function: TokenStream) -> TokenStream {
    expand(options, function).unwrap_or_else(|fault| fault.into_tokens())
}

/// What is wrong, and where.
struct Fault {
    message: String,
    at: Span,
}

impl Fault {
    fn new(message: impl Into<String>, at: Span) -> Fault {
        Fault { message: message.into(), at }
    }

    /// `::core::compile_error!("…")`, shown at the place of the fault.
    fn into_tokens(self) -> TokenStream {
        let mut text = Literal::string(&self.message);
        text.set_span(self.at);
        let call: TokenStream = "::core::compile_error!".parse().unwrap_or_default();
        let mut tokens: Vec<TokenTree> = call.into_iter().collect();
        tokens.push(Group::new(Delimiter::Brace, TokenTree::from(text).into()).into());
        tokens.iter_mut().for_each(|token| token.set_span(self.at));
        tokens.into_iter().collect()
    }
}

fn expand(options: TokenStream, function: TokenStream) -> Result<TokenStream, Fault> {
    let options = setters(options)?;
    let mut tokens: Vec<TokenTree> = function.into_iter().collect();
    let is_word = |token: &TokenTree, word: &str| matches!(token, TokenTree::Ident(ident) if ident.to_string() == word);
    let of_main = "kymo_context::main belongs on an `async fn main()`";
    let Some(at_fn) = tokens.iter().position(|token| is_word(token, "fn")) else {
        return Err(Fault::new(of_main, Span::call_site()));
    };
    let Some(at_async) = tokens[..at_fn].iter().position(|token| is_word(token, "async")) else {
        return Err(Fault::new(of_main, tokens[at_fn].span()));
    };
    let body = match tokens.pop() {
        Some(TokenTree::Group(body)) if body.delimiter() == Delimiter::Brace => body,
        _ => return Err(Fault::new(of_main, Span::call_site())),
    };
    tokens.remove(at_async);

    // { ::kymo_context::Program::new().<options>.run(async move { body }) }
    let mut run: Vec<TokenTree> = parsed("::kymo_context::Program::new()");
    run.extend(options);
    run.extend(parsed(".run"));
    let mut main_future = parsed("async move");
    main_future.push(body.into());
    run.push(Group::new(Delimiter::Parenthesis, main_future.into_iter().collect()).into());
    tokens.push(Group::new(Delimiter::Brace, run.into_iter().collect()).into());
    Ok(tokens.into_iter().collect())
}

/// `name = value, …` as `.name(value)…`: the program's own methods say which there are.
fn setters(options: TokenStream) -> Result<Vec<TokenTree>, Fault> {
    let mut rest = options.into_iter().peekable();
    let mut calls = Vec::new();
    while let Some(token) = rest.next() {
        let TokenTree::Ident(name) = token else {
            return Err(Fault::new("expected the name of an option", token.span()));
        };
        match rest.next() {
            Some(TokenTree::Punct(punct)) if punct.as_char() == '=' => {}
            other => {
                let at = other.map_or(name.span(), |token| token.span());
                return Err(Fault::new(format!("expected `{name} = value`"), at));
            }
        }
        let mut value = Vec::new();
        while let Some(token) = rest.next_if(|token| !matches!(token, TokenTree::Punct(p) if p.as_char() == ',')) {
            value.push(token);
        }
        rest.next();
        if value.is_empty() {
            return Err(Fault::new(format!("expected a value for `{name}`"), name.span()));
        }
        calls.push(Punct::new('.', Spacing::Alone).into());
        calls.push(Ident::new(&name.to_string(), name.span()).into());
        calls.push(Group::new(Delimiter::Parenthesis, value.into_iter().collect()).into());
    }
    Ok(calls)
}

fn parsed(source: &str) -> Vec<TokenTree> {
    source.parse::<TokenStream>().map(|tokens| tokens.into_iter().collect()).unwrap_or_default()
}
