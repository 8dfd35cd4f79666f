// SPDX-License-Identifier: Apache-2.0

extension Span<UInt8> {
  /// The C structure, or part of one, that the first bytes are, in the machine's byte order, wherever they lie.
  ///
  /// For types of which every pattern of bits is a value: integers, and structures and arrays of them.
  /// - Precondition: there are at least as many bytes.
  public func load<Structure: BitwiseCopyable>(as type: Structure.Type = Structure.self) -> Structure {
    precondition(count >= MemoryLayout<Structure>.size)
    return unsafe bytes.unsafeLoadUnaligned(as: type)
  }
}

extension [UInt8] {
  /// The bytes of a C structure, or part of one, in the machine's byte order. For types without padding.
  public init<Structure: BitwiseCopyable>(bytesOf structure: Structure) {
    self = unsafe Swift.withUnsafeBytes(of: structure) { unsafe Array($0) }
  }
}
