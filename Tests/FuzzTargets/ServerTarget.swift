import Transport

@testable import Helper
// SPDX-License-Identifier: Apache-2.0
@testable import Migration

extension FuzzTarget {
  /// The whole server over a real connection, with devices made of memory: a VMM that says anything in any order, with any
  /// descriptors, and whoever is at the other end of its streams. Each request has its reply, the server ends when it is
  /// told to, and leaves nothing behind.
  static let server = FuzzTarget("server") { bytes in
    var input = FuzzInput(bytes)
    let how = input.byte()
    let vmm = try HostileVMM(devices: 1 + Int(how & 1), failing: how & 2 == 0 ? .max : Int(how >> 2))
    if !input.flag() {
      try vmm.ask(.hello(major: 1, minor: 1, features: .pages, version: "fuzz"), [])
      for id in 0..<UInt32(input.choice(3)) {
        try vmm.ask(.addDevice(RequestChoice.device(id + 1, named: id)), [.memory([])])
      }
    }
    for _ in 0..<48 where !input.isEmpty && !vmm.isOver { try vmm.step(&input) }
    try vmm.settle()
  }
}

extension HostileVMM {
  fileprivate func step(_ input: inout FuzzInput) throws {
    switch input.choice(16) {
    case 0...8:
      let request = RequestChoice.request(&input)
      // Mostly what belongs to it.
      let files = input.choice(4) == 3 ? anything(&input) : fitting(request, &input)
      try ask(request, files)
    case 9:
      var packet = RequestChoice.request(&input).packet(number: UInt32(input.byte()))
      for _ in 0..<input.choice(4) where !packet.isEmpty {
        let place = Int(input.number(UInt16.self)) % packet.count
        packet[place] = input.byte()
      }
      try send(packet, anything(&input))
    case 10: try send(input.take(Int(input.byte())), anything(&input))
    case 11: try wait(.replies)
    case 12: try wait(.loadedOrReady)
    case 13: endStreams()
    case 14: try wait(.status)
    default: try end(hangsUp: input.choice(8) != 7)
    }
  }

  /// The descriptors that a request takes.
  private func fitting(_ request: HelperRequest, _ input: inout FuzzInput) -> [HostileFile] {
    switch request {
    case .addDevice, .blob, .addDirtyPages: [.memory([UInt8](repeating: input.byte(), count: 4096))]
    case .tag: [.memory(RequestChoice.tag(input.byte()))]
    case .addMemory(let memory): memory.fileOffset == nil ? [] : [.memory([UInt8](repeating: 1, count: 1 << 18))]
    case .beginSave(let save):
      [input.flag() ? .sink : .socket(answers(&input), isOpen: input.flag())]
        + (save.pages == .byHelper ? [.socket(memoryAnswers(input.choice(4)), isOpen: input.flag())] : [])
    case .beginLoad(let load):
      [.socket(stream(&input), isOpen: input.flag())]
        + (load.pages ? [.socket(memory(&input), isOpen: input.flag())] : [])
    default: []
    }
  }

  /// None, one or two of any kind.
  private func anything(_ input: inout FuzzInput) -> [HostileFile] {
    (0..<input.choice(3)).map { _ in
      switch input.choice(10) {
      case 0: .memory(input.take(Int(input.byte())))
      case 1: .sink
      case 2: .socket(stream(&input), isOpen: input.flag())
      case 3: .socket(answers(&input), isOpen: input.flag())
      case 4: .pipe(stream(&input), isOpen: input.flag())
      case 5: .stuckPipe
      case 6: input.flag() ? .null : .zero
      case 7: .folder
      case 8: .loneSocket
      default: .packets
      }
    }
  }

  /// Device state for these devices, or nearly.
  private func stream(_ input: inout FuzzInput) -> [UInt8] {
    // So much is for this alone, and what follows means the same whatever becomes of it.
    var part = FuzzInput(input.take(Int(input.byte() & 63)))
    return ForgedStream.bytes(&part, checksum: .xxh3, devices: manifest)
  }

  /// What a destination says.
  private func answers(_ input: inout FuzzInput) -> [UInt8] {
    var part = FuzzInput([4] + input.take(Int(input.byte() & 15)))
    return ForgedStream.bytes(&part, checksum: .xxh3, devices: [])
  }

  private func memory(_ input: inout FuzzInput) -> [UInt8] {
    var part = FuzzInput(input.take(Int(input.byte() & 31)))
    return ForgedMemory.bytes(&part, checksum: .xxh3)
  }

  /// The first so many answers to rounds of guest memory.
  private func memoryAnswers(_ count: Int) -> [UInt8] {
    var writer = MemoryWriter(checksum: .xxh3)
    return (0..<count).reduce(into: count == 0 ? [] : MemoryFormat.preamble(checksum: .xxh3)) { bytes, index in
      bytes += writer.synced(UInt64(index + 1))
    }
  }
}
