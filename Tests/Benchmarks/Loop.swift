// SPDX-License-Identifier: Apache-2.0
// What a round of pre-copy costs the engine itself, beside what no program gets round: counting what is dirty in the bitmap.
import Migration

/// A session of some devices whose guest never gets done: a round after the other, with nothing but the session's own time.
private struct Rounds {
  private var session: SaveSession
  private var now = MonotonicTime(microseconds: 0)
  private var waiting: [SessionEffect]

  init(devices count: Int) throws {
    let devices = (0..<count).map { index in
      SessionDevice(name: "d\(index)", driver: "bench", features: [.stopCopy, .p2p, .preCopy], state: .running)
    }
    var configuration = SaveSession.Configuration()
    configuration.buffers = 2 * count
    var memory = PreCopyConfiguration()
    memory.downtimeLimit = 0
    memory.patience = .max
    memory.mostPasses = .max
    memory.interval = 1000
    configuration.pace.interval = 1000
    configuration.memory = memory
    let plan = try QuiescePlan(devices: devices, reachability: .assumed(count: count))
    session = SaveSession(devices: devices, plan: plan, configuration: configuration)
    waiting = session.begin(at: now)
  }

  /// Answers whatever the session wants until it has read the trackers so many times more.
  mutating func run(_ rounds: Int) {
    let goal = session.rounds + rounds
    while session.rounds < goal {
      if waiting.isEmpty {
        guard let deadline = session.deadline else { fail("the session waits for nothing") }
        now = max(now, deadline)
        waiting = session.handle(.time, at: now)
      }
      let effects = waiting
      waiting = []
      for effect in effects {
        if let event = answer(effect) { waiting += session.handle(event, at: now) }
      }
    }
  }

  private mutating func answer(_ effect: SessionEffect) -> SessionEvent? {
    switch effect {
    case .control(let device, let request):
      let times = RequestTimes(began: now, ended: now)
      switch request {
      case .setState(let state):
        return .control(device: device, request, .success(.moved(openedData: state == .preCopy)), times)
      case .preCopyInfo:
        let info = PreCopyInfo(initialBytes: 0, dirtyBytes: 1 << 20)
        return .control(device: device, request, .success(.preCopyInfo(info)), times)
      case .stopCopySize: return .control(device: device, request, .success(.stopCopySize(1 << 30)), times)
      case .readState, .flush, .reset: fail("the session does not go on")
      }
    case .read(let device, let buffer):
      // Once the info was asked for, each device has one buffer's worth.
      return .read(device: device, buffer: buffer, .success(buffer % 2 == 0 ? .bytes(1 << 20) : .end))
    case .send(let frame): return .sent(frame.payload)
    case .readPages: return .dirty(DirtyReading(pages: 1 << 18, bytes: 1 << 30))
    case .sendPages:
      now = now.adding(microseconds: 1000)
      return .pagesSent(bytes: 1 << 30)
    case .write, .finishChannel, .receive, .stopVCPUs, .restartTracking, .limit, .note: return nil
    }
  }
}

/// A round with as many devices as a large GPU server has, against counting a guest of 1 TiB once.
func benchLoop() throws -> Bool {
  let devices = 16
  let layout = try DirtyLayout(ranges: [0..<1 << 40], pageSize: 4096)
  var bitmap = DirtyBitmap(layout: layout)
  bitmap.markAll()
  var session = try Rounds(devices: devices)
  session.run(10)
  var ratios: [Double] = []
  var rounds: [Double] = []
  for _ in 0..<21 {
    var begin = processorTime()
    session.run(100)
    let round = (processorTime() - begin) / 100
    begin = processorTime()
    let pages = bitmap.count
    let counting = processorTime() - begin
    if pages != 1 << 28 { fail("\(pages) pages counted") }
    rounds.append(round)
    ratios.append(round / counting)
  }
  print("the pre-copy loop, \(devices) devices, a guest of 1 TiB in pages of 4 KiB")
  print(
    "  a round takes the session \(decimals(median(rounds), 1)) us, which is \(decimals(1000 * median(ratios), 1)) thousandths of "
      + "counting what is dirty (promised: under 50)")
  return promise(median(ratios) < 0.05, "the loop's own time for a round")
}
