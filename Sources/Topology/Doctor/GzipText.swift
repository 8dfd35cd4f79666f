// SPDX-License-Identifier: Apache-2.0

/// Unpacks gzip, in which the kernel shows its configuration (RFC 1951 and 1952). For files of some hundred kilobytes: it is
/// small, and not fast. Nil is what is damaged, or larger than allowed; checksums are not looked at.
struct GzipText {
  private let input: [UInt8]
  private var position: Int
  private var bits: UInt32 = 0
  private var bitCount: UInt32 = 0
  private var output: [UInt8] = []
  private let maximum: Int

  /// - Parameter maximum: what would become longer is not unpacked.
  static func unpacked(_ bytes: [UInt8], maximum: Int) -> [UInt8]? {
    guard var text = GzipText(bytes, maximum: maximum) else { return nil }
    do throws(Damage) {
      try text.readBlocks()
      return text.output
    } catch {
      return nil
    }
  }

  private struct Damage: Error {}

  /// Goes past the header.
  private init?(_ bytes: [UInt8], maximum: Int) {
    // Magic numbers, and the only method that there is; three flags are reserved.
    guard bytes.count >= 18, bytes[0] == 0x1f, bytes[1] == 0x8b, bytes[2] == 8, bytes[3] & 0xe0 == 0 else { return nil }
    let flags = bytes[3]
    var place = 10
    if flags & 0x04 != 0 {
      guard place + 2 <= bytes.count else { return nil }
      place += 2 + Int(bytes[place]) + Int(bytes[place + 1]) << 8
    }
    // A name and a comment, each with a zero at its end.
    for flag: UInt8 in [0x08, 0x10] where flags & flag != 0 {
      guard place < bytes.count, let end = bytes[place...].firstIndex(of: 0) else { return nil }
      place = end + 1
    }
    if flags & 0x02 != 0 { place += 2 }
    guard place <= bytes.count else { return nil }
    input = bytes
    position = place
    self.maximum = maximum
  }

  // MARK: Bits

  private mutating func take(_ count: UInt32) throws(Damage) -> Int {
    while bitCount < count {
      guard position < input.count else { throw Damage() }
      bits |= UInt32(input[position]) << bitCount
      position += 1
      bitCount += 8
    }
    let value = bits & ((1 << count) - 1)
    bits >>= count
    bitCount -= count
    return Int(value)
  }

  private mutating func put(_ byte: UInt8) throws(Damage) {
    guard output.count < maximum else { throw Damage() }
    output.append(byte)
  }

  // MARK: Codes

  /// A canonical Huffman code: how many symbols have each length, and the symbols in the order of their codes.
  private struct Code {
    var counts = [Int](repeating: 0, count: 16)
    var symbols: [Int] = []

    init(lengths: some Collection<Int>) throws(Damage) {
      for length in lengths where length > 0 { counts[length] += 1 }
      for length in 1...15 where counts[length] > 0 {
        for (symbol, own) in lengths.enumerated() where own == length { symbols.append(symbol) }
      }
      // More codes than their lengths leave room for. Fewer are no damage as long as none of the others is met.
      var room = 1
      for length in 1...15 {
        room = room * 2 - counts[length]
        if room < 0 { throw Damage() }
      }
    }
  }

  /// Codes of one length are consecutive numbers, and begin after twice those of the length before.
  private mutating func next(_ code: Code) throws(Damage) -> Int {
    var (value, first, index) = (0, 0, 0)
    for length in 1...15 {
      value |= try take(1)
      let count = code.counts[length]
      if value - first < count { return code.symbols[index + value - first] }
      index += count
      first = (first + count) << 1
      value <<= 1
    }
    throw Damage()
  }

  // MARK: Blocks

  private mutating func readBlocks() throws(Damage) {
    var isLast = false
    while !isLast {
      isLast = try take(1) == 1
      switch try take(2) {
      case 0: try readStored()
      case 1:
        let lengths = (0..<288).map { $0 < 144 ? 8 : $0 < 256 ? 9 : $0 < 280 ? 7 : 8 }
        try readCompressed(try Code(lengths: lengths), try Code(lengths: [Int](repeating: 5, count: 30)))
      case 2: try readDynamic()
      default: throw Damage()
      }
    }
  }

  private mutating func readStored() throws(Damage) {
    // From the next whole byte on.
    (bits, bitCount) = (0, 0)
    guard position + 4 <= input.count else { throw Damage() }
    let length = Int(input[position]) | Int(input[position + 1]) << 8
    let inverse = Int(input[position + 2]) | Int(input[position + 3]) << 8
    position += 4
    guard length == inverse ^ 0xffff, position + length <= input.count else { throw Damage() }
    for byte in input[position..<position + length] { try put(byte) }
    position += length
  }

  /// A block that brings its own codes, their lengths in a code of their own.
  private mutating func readDynamic() throws(Damage) {
    let (literals, distances, own) = (try take(5) + 257, try take(5) + 1, try take(4) + 4)
    guard literals <= 286, distances <= 30 else { throw Damage() }
    let order = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15]
    var ownLengths = [Int](repeating: 0, count: 19)
    for place in order.prefix(own) { ownLengths[place] = try take(3) }
    let lengthCode = try Code(lengths: ownLengths)
    var lengths: [Int] = []
    while lengths.count < literals + distances {
      let symbol = try next(lengthCode)
      switch symbol {
      case 16:
        guard let last = lengths.last else { throw Damage() }
        lengths += [Int](repeating: last, count: 3 + (try take(2)))
      case 17: lengths += [Int](repeating: 0, count: 3 + (try take(3)))
      case 18: lengths += [Int](repeating: 0, count: 11 + (try take(7)))
      default: lengths.append(symbol)
      }
    }
    guard lengths.count == literals + distances else { throw Damage() }
    try readCompressed(try Code(lengths: lengths[..<literals]), try Code(lengths: lengths[literals...]))
  }

  private mutating func readCompressed(_ literals: Code, _ distances: Code) throws(Damage) {
    while true {
      let symbol = try next(literals)
      if symbol < 256 {
        try put(UInt8(symbol))
        continue
      }
      if symbol == 256 { return }
      let length = try length(symbol)
      let distance = try distance(try next(distances))
      guard distance <= output.count else { throw Damage() }
      // What is copied may be what is being written.
      for _ in 0..<length { try put(output[output.count - distance]) }
    }
  }

  /// Four lengths for each number of additional bits, from 3 on; the last stands for 258 alone.
  private mutating func length(_ symbol: Int) throws(Damage) -> Int {
    let step = symbol - 257
    guard step < 29 else { throw Damage() }
    if step < 8 { return step + 3 }
    if step == 28 { return 258 }
    let more = step / 4 - 1
    return 3 + (4 + step % 4) << more + (try take(UInt32(more)))
  }

  /// Two distances for each number of additional bits, from 1 on.
  private mutating func distance(_ symbol: Int) throws(Damage) -> Int {
    guard symbol < 30 else { throw Damage() }
    if symbol < 4 { return symbol + 1 }
    let more = symbol / 2 - 1
    return 1 + (2 + symbol % 2) << more + (try take(UInt32(more)))
  }
}
