// Package style is test-only: it holds the rules of this code base that a
// machine can check, each with the reason that its failure prints. It parses
// every file of the module and runs nothing, so a package that does not
// compile yet is checked all the same. What needs judgement is not here.
package style
