//! What the register makes of its lines: an enum of all dialects and the dispatch over it, both known to the compiler.

/// Takes one line for each dialect, `Name => Implementation`. The name is that of the wire's enum, `v1::Dialect`.
///
/// The generated matches have no wildcard: a dialect on the wire without a line here does not compile, nor does a line
/// without a dialect on the wire. Calls are static, and a request's syntax tree stays on the stack.
macro_rules! register {
    ($($name:ident => $described:ty),+ $(,)?) => {
        /// A dialect that this build knows.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Registered {
            $(#[doc = concat!("Described by [`", stringify!($described), "`].")] $name,)+
        }

        /// The syntax tree of a request, in its dialect.
        #[derive(Clone, Debug)]
        #[allow(clippy::large_enum_variant, reason = "one per request, on the stack; a box would cost an allocation each")]
        pub enum Syntax {
            $(#[doc = concat!("A request as [`", stringify!($described), "`] reads it.")] $name(<$described as Dialect>::Syntax),)+
        }

        impl Registered {
            /// All dialects, in the register's order.
            pub const ALL: &'static [Registered] = &[$(Registered::$name),+];
            /// The names of all dialects, in the register's order.
            pub const NAMES: &'static [&'static str] = &[$(<$described as Dialect>::NAME),+];

            /// The dialect of this number on the wire. `None`: none was said.
            #[must_use]
            pub const fn of(wire: v1::Dialect) -> Option<Registered> {
                match wire {
                    v1::Dialect::Unspecified => None,
                    $(v1::Dialect::$name => Some(Registered::$name),)+
                }
            }

            /// The number on the wire.
            #[must_use]
            pub const fn wire(self) -> v1::Dialect {
                match self { $(Registered::$name => v1::Dialect::$name,)+ }
            }

            /// [`Dialect::NAME`].
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Registered::$name => <$described as Dialect>::NAME,)+ }
            }

            /// [`Dialect::CREDENTIAL_HEADERS`].
            #[must_use]
            pub const fn credential_headers(self) -> &'static [&'static str] {
                match self { $(Registered::$name => <$described as Dialect>::CREDENTIAL_HEADERS,)+ }
            }

            /// [`Dialect::ANSWERS_ANY_VERSION`].
            #[must_use]
            pub const fn answers_any_version(self) -> bool {
                match self { $(Registered::$name => <$described as Dialect>::ANSWERS_ANY_VERSION,)+ }
            }

            /// [`Dialect::RULES`].
            #[must_use]
            pub const fn rules(self) -> &'static Rules {
                match self { $(Registered::$name => const { &<$described as Dialect>::RULES },)+ }
            }

            fn body_need(self, request: &HttpRequest<'_>) -> BodyNeed {
                match self { $(Registered::$name => <$described as Dialect>::body_need(request),)+ }
            }

            fn parse(self, service: &Service, prefix: &str, request: &HttpRequest<'_>) -> Result<Parsed, Denial> {
                match self {
                    $(Registered::$name => {
                        let rewrite::Parsed { request, syntax } = <$described as Dialect>::parse(service, prefix, request)?;
                        Ok(Parsed { request, syntax: Syntax::$name(syntax) })
                    })+
                }
            }
        }

        /// Re-emits a parsed request with the constraints inside it, and proves it by parsing the output again.
        ///
        /// # Errors
        /// `row_denied`, `field_denied` or `unsupported`, if a constraint cannot be expressed or the output does not parse to
        /// the expected tree.
        pub fn emit(
            service: &Service,
            prefix: &str,
            parsed: &Parsed,
            constraints: &Constraints,
        ) -> Result<Rewrite, Denial> {
            match &parsed.syntax {
                $(Syntax::$name(syntax) => {
                    <$described as Dialect>::emit(service, prefix, syntax, &parsed.request, constraints)
                })+
            }
        }
    };
}

pub(super) use register;
