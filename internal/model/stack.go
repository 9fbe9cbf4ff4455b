package model

// StackLabel is the label of networks and services that a stack file made: its value is
// the stack's name.
const StackLabel = "sealane.stack"
