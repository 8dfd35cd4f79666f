// SPDX-License-Identifier: Apache-2.0
internal import CVFIO
internal import LinuxIO
internal import Migration

/// What a field of a packet may hold, and what it means. Whatever else is in it is refused, with words for whoever writes
/// the other end.
enum WireField {
  /// Something is wrong with the packet's layout.
  static func layout(_ text: String) -> HelperFailure { HelperFailure(.badPacket, text) }

  /// A field has a value that it can't have.
  static func argument(_ text: String) -> HelperFailure { HelperFailure(.badArgument, text) }

  static func reserved(_ value: UInt32) throws(HelperFailure) {
    if value != 0 { throw layout("a reserved field is not 0") }
  }

  static func isZero(_ value: some FixedWidthInteger, _ name: String) throws(HelperFailure) {
    if value != 0 { throw argument("\(name) is not 0") }
  }

  /// A device by the number that both sides call it.
  static func device(_ number: UInt32, _ name: String = "device") throws(HelperFailure) -> UInt32 {
    guard (1...UInt32(Int32.max)).contains(number) else { throw argument("\(name) \(number) is not 1 to 2^31 - 1") }
    return number
  }

  /// The same where it may be about none.
  static func optionalDevice(_ number: UInt32) throws(HelperFailure) -> UInt32 {
    number == 0 ? 0 : try device(number)
  }

  static func space(_ number: UInt32) throws(HelperFailure) -> UInt32 {
    if number == 0 { throw argument("space is 0") }
    return number
  }

  static func flag(_ value: UInt32, _ name: String) throws(HelperFailure) -> Bool {
    if value > 1 { throw argument("\(name) is \(value), not 0 or 1") }
    return value == 1
  }

  /// What an enumerator stands for.
  static func choice<Value>(
    _ number: UInt32, _ name: String, _ values: [(Int, Value)]
  ) throws(HelperFailure) -> Value {
    guard let found = values.first(where: { $0.0 == Int(number) }) else {
      throw argument("\(name) \(number) is not known")
    }
    return found.1
  }

  /// The enumerator for it.
  static func number<Value: Equatable>(_ value: Value, _ values: [(Int, Value)]) -> UInt32 {
    UInt32(values.first { $0.1 == value }!.0)
  }

  /// Addresses from one on, in multiples of 4,096.
  static func range(_ first: UInt64, _ size: UInt64, _ name: String) throws(HelperFailure) -> Range<UInt64> {
    let (end, overflow) = first.addingReportingOverflow(size)
    if size == 0 || overflow || (first | size) % 4096 != 0 {
      throw argument(
        "\(name) from 0x\(String(first, radix: 16)) on, of \(size) bytes: not multiples of 4096, empty, or not below 2^64"
      )
    }
    return first..<end
  }

  /// Where so many bytes lie in a file.
  static func offset(_ offset: UInt64, size: UInt64) throws(HelperFailure) -> UInt64 {
    let (end, overflow) = offset.addingReportingOverflow(size)
    if overflow || end > UInt64(Int64.max) { throw argument("\(size) bytes at offset \(offset) are in no file") }
    return offset
  }

  static func pageSize(_ size: UInt64) throws(HelperFailure) -> UInt64 {
    guard (4096...1 << 30).contains(size), size & (size - 1) == 0 else {
      throw argument("page_size \(size) is not a power of two from 4096 to 1 GiB")
    }
    return size
  }

  static func microseconds(_ time: UInt64, _ name: String) throws(HelperFailure) -> UInt64 {
    if time > UInt64(VFIO_FERRY_MAX_TIME) { throw argument("\(name) \(time) is more than a day") }
    return time
  }

  /// A time where one is known.
  static func optionalMicroseconds(_ time: UInt64, _ name: String) throws(HelperFailure) -> UInt64? {
    guard let time = known(time) else { return nil }
    return try microseconds(time, name)
  }

  /// The corresponding C constant is `VFIO_FERRY_UNKNOWN`.
  static let unknown = UInt64.max

  /// What a number says, where it is known.
  static func known(_ number: UInt64) -> UInt64? { number == unknown ? nil : number }

  /// A name or a text: `char name[SIZE]`.
  static func text<Characters: BitwiseCopyable>(_ characters: Characters, _ name: String) throws(HelperFailure)
    -> String
  {
    let bytes = [UInt8](bytesOf: characters)
    guard let end = bytes.firstIndex(of: 0), bytes[end...].allSatisfy({ $0 == 0 }) else {
      throw layout("\(name) does not end with zeros")
    }
    guard let text = String(validating: bytes[..<end], as: UTF8.self), !text.unicodeScalars.contains(where: isControl)
    else { throw argument("\(name) is not UTF-8, or has control characters") }
    return text
  }

  /// The other way: cut to what fits, and with spaces for control characters.
  static func characters<Characters: BitwiseCopyable>(
    _ text: String, as type: Characters.Type = Characters.self
  ) -> Characters {
    let size = MemoryLayout<Characters>.size
    var bytes: [UInt8] = []
    for scalar in text.unicodeScalars {
      let encoded = UTF8.encode(isControl(scalar) ? " " : scalar)!
      // The last byte is the NUL.
      if bytes.count + encoded.count >= size { break }
      bytes += encoded
    }
    bytes += Array(repeating: 0, count: size - bytes.count)
    return bytes.span.load(as: type)
  }

  private static func isControl(_ scalar: Unicode.Scalar) -> Bool { scalar.properties.generalCategory == .control }

  /// Makes the header's number of a state; nil is one that the device has not said.
  static func number(_ state: MigrationState?) -> UInt32 {
    state.map { $0.rawValue + 1 } ?? UInt32(VFIO_FERRY_STATE_UNKNOWN)
  }

  static func state(_ number: UInt32, _ name: String = "state") throws(HelperFailure) -> MigrationState {
    guard number > 0, let state = MigrationState(rawValue: number - 1) else {
      throw argument("\(name) \(number) is not known")
    }
    return state
  }

  static func optionalState(_ number: UInt32, _ name: String = "state") throws(HelperFailure) -> MigrationState? {
    number == UInt32(VFIO_FERRY_STATE_UNKNOWN) ? nil : try state(number, name)
  }
}

/// A field of flags, of which each one that has a name is asked for.
struct WireFlags {
  private let name: String
  private var rest: UInt64

  init(_ flags: UInt32, _ name: String = "flags") {
    rest = UInt64(flags)
    self.name = name
  }

  /// Whether a flag is set.
  mutating func take(_ flag: Int) -> Bool {
    let isSet = rest & UInt64(flag) != 0
    rest &= ~UInt64(flag)
    return isSet
  }

  /// That nothing else is.
  func end() throws(HelperFailure) {
    if rest != 0 { throw WireField.argument("\(name) has unknown bits 0x\(String(rest, radix: 16))") }
  }
}

/// The flags of those that are to be set.
func wireFlags(_ flags: (Int, Bool)...) -> UInt32 { flags.reduce(0) { $1.1 ? $0 | UInt32($1.0) : $0 } }
