//! Where only text may stand, so that a placeholder there is text whatever it stands for.
//!
//! In: an object's kind and a way into it. Out: whether that is such a place. For Kubernetes' own kinds its published
//! schema says which mappings and lists hold text ([`Shape`]): labels, annotations, selectors, `data`, arguments and
//! the like. Of custom resources only what these words mean everywhere is known: labels, annotations, `matchLabels`,
//! `nodeSelector`, and `value` in `env`.

use crate::builtin::Shape;

/// A place in an object.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    shape: Shape,
    /// Whether the kind is one of Kubernetes' own.
    is_known: bool,
    word: Word,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    Root,
    Metadata,
    TextMap,
    Environment,
    Variable,
    Text,
    Other,
}

impl Place {
    /// The object itself.
    pub(super) fn of(api_version: &str, kind: &str) -> Self {
        let shape = Shape::of(api_version, kind);
        Self {
            shape,
            is_known: shape.is_known(),
            word: Word::Root,
        }
    }

    /// A field of it.
    pub(super) fn field(self, name: &str) -> Self {
        let word = match (self.word, name) {
            (Word::Root, "apiVersion" | "kind") | (Word::Metadata, "name" | "namespace") => {
                Word::Text
            }
            (Word::Root, "metadata") => Word::Metadata,
            _ if self.is_known => Word::Other,
            (Word::TextMap, _) | (Word::Variable, "value") => Word::Text,
            (_, "labels" | "annotations" | "matchLabels" | "nodeSelector") => Word::TextMap,
            (_, "env") => Word::Environment,
            _ => Word::Other,
        };
        Self {
            shape: self.shape.field(name),
            word,
            ..self
        }
    }

    /// An item of it.
    pub(super) fn item(self) -> Self {
        let word = match self.word {
            Word::Environment => Word::Variable,
            _ => Word::Other,
        };
        Self {
            shape: self.shape.item(),
            word,
            ..self
        }
    }

    /// Whether only text may stand here.
    pub(super) fn is_text(self) -> bool {
        self.word == Word::Text || self.shape.is_text()
    }
}
