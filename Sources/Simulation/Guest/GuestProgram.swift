// SPDX-License-Identifier: Apache-2.0

/// What a guest's software does on one virtual CPU, as a list of instructions.
///
/// It is made for loops over rings: wait for a completion word, work on what came, put a work request together in memory, ring
/// a doorbell. What a work request looks like is the matter of who writes the program.
struct GuestProgram: Hashable, Sendable {
  /// The number of a register, from 0 up to and without ``registers``.
  typealias Register = Int

  /// How many registers a CPU has.
  static let registers = 16

  /// A value that an instruction takes.
  enum Operand: Hashable, Sendable, ExpressibleByIntegerLiteral {
    case constant(UInt64)
    case register(Register)

    init(integerLiteral value: UInt64) { self = .constant(value) }
  }

  /// A byte address that an instruction takes: a base, and steps of a size by a register.
  struct Address: Hashable, Sendable, ExpressibleByIntegerLiteral {
    var base: UInt64
    var index: Register?
    var stride: UInt64

    init(_ base: UInt64, index: Register? = nil, stride: UInt64 = Page.bytes) {
      self.base = base
      self.index = index
      self.stride = stride
    }

    init(integerLiteral value: UInt64) { self.init(value) }
  }

  /// Pages counted by a register: that many steps of so many pages.
  struct PageIndex: Hashable, Sendable {
    /// How many steps.
    var register: Register
    /// Pages of a step.
    var stride = 1
  }

  /// One instruction. Arithmetic wraps around.
  enum Instruction: Hashable, Sendable {
    case set(Register, Operand)
    case add(Register, Operand)
    /// The register becomes what is left of it when divided; 0 divides nothing.
    case remainder(Register, Operand)
    case multiply(Register, Operand)
    /// The register keeps those bits that are set in the value.
    case and(Register, Operand)
    /// Zeros come in from above; by 64 and more nothing is left.
    case shiftRight(Register, Operand)
    /// The register becomes ``GuestProgram/mixed(_:_:)`` of itself and the value.
    case mix(Register, Operand)
    case load(Register, Address)
    case store(Address, Operand)
    /// Words are read one by one, mixed with their place in the run, and written elsewhere. It takes time by their number, and
    /// can be stopped at each.
    case transform(from: Address, to: Address, words: Operand)
    /// Polls a word of memory until it is at least that.
    case wait(Address, atLeast: Operand)
    case pause(microseconds: Operand)
    /// Writes behind the BAR of the function at a node, as one posted request: a doorbell, a descriptor.
    case write(node: Int, Address, [Operand])
    case jump(to: Int)
    case jumpIfLess(Register, Operand, to: Int)
    /// The guest maps pages of a virtual IOMMU's domain to guest pages.
    /// An index moves both.
    case map(domain: Int, pages: Range<Int>, to: Int, index: PageIndex? = nil)
    /// The guest unmaps them.
    case unmap(domain: Int, pages: Range<Int>, index: PageIndex? = nil)
    /// The guest resets the function at a node.
    case reset(node: Int)
    case halt
  }

  /// The instructions. One that goes past the last halts the CPU.
  var instructions: [Instruction]

  init(_ instructions: [Instruction]) { self.instructions = instructions }

  /// Whether its jumps lead to instructions, or to its end.
  var isWellFormed: Bool {
    instructions.allSatisfy { instruction in
      switch instruction {
      case .jump(let target), .jumpIfLess(_, _, let target): 0...instructions.count ~= target
      default: true
      }
    }
  }

  /// What ``Instruction/mix(_:_:)`` and ``Instruction/transform(from:to:words:)`` make of a word.
  static func mixed(_ word: UInt64, _ value: UInt64) -> UInt64 {
    SeededGenerator.mixed(word ^ value &* 0xd6e8_feb8_6659_fd93)
  }
}
