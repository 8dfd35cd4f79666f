// SPDX-License-Identifier: Apache-2.0
internal import Engine
internal import Glibc
internal import LinuxIO
internal import Migration
internal import Transport

/// Where a stream is read from.
struct InputFile {
  let channel: DescriptorChannel
  /// Whether it can be read twice: then it is checked whole before any device is touched.
  let isFile: Bool

  /// - Parameter path: a file, a pipe, or - for standard input.
  init(_ path: String) throws(CommandFailure) {
    do throws(SystemError) {
      let descriptor =
        path == "-"
        ? try Descriptor.inherited(STDIN_FILENO, subject: "standard input") : try Descriptor.open(path, O_RDONLY)
      isFile = try descriptor.isRegularFile()
      channel = try DescriptorChannel(owning: descriptor)
    } catch {
      throw error.errno == ENOENT ? .nothing("\(error)") : .failed("\(error)")
    }
  }
}

/// What a whole stream holds, found by reading all of it.
struct StreamSummary {
  struct Device {
    var manifest: StreamManifest.Device
    var bytes: UInt64 = 0
    var frames: UInt64 = 0
    var voids = 0
    var initialComplete = false
    var vmmStateBytes: Int?
  }

  struct Frame {
    let number: UInt64
    let offset: UInt64
    let item: StreamItem
  }

  private(set) var devices: [Device] = []
  private(set) var bytes: UInt64 = 0
  private(set) var frames: UInt64 = 0
  private(set) var skippedFrames = 0

  /// Reads a stream to its end and checks everything in it.
  /// - Parameter frame: told of every frame.
  init(_ input: InputFile, frame: (Frame) -> Void = { _ in }) throws(CommandFailure) {
    let buffer: TransferBuffer
    do throws(SystemError) {
      buffer = try TransferBuffer(count: StreamFormat.maximumDataSize)
    } catch {
      throw .failed("\(error)")
    }
    var source = FrameSource(channel: input.channel, checksum: .xxh3)
    // Why what is well formed can't have been saved into a file.
    var problem: String?
    do throws(FrameSource.Fault) {
      while !source.reader.isEnded, problem == nil {
        let number = source.reader.framesRead
        let item = try source.next(buffer: buffer)
        if number == 0 { problem = Self.problem(first: item) }
        take(item)
        frame(Frame(number: number, offset: source.offset, item: item))
      }
      if problem == nil, try !source.isAtEnd() { throw .stream(source.reader.trailing) }
    } catch {
      switch error {
      case .stream(let fault): throw .failed("\(input.channel.name): \(fault)")
      case .channel(let fault): throw .failed("\(fault)")
      }
    }
    if let problem { throw .failed("\(input.channel.name): \(problem)") }
    bytes = source.reader.bytesRead
    frames = source.reader.framesRead
  }

  /// Why a stream that begins so can't have been saved; nil where it can.
  static func problem(first item: StreamItem) -> String? {
    guard case .manifest(let manifest) = item else { return "it holds a destination's answers, and no devices" }
    guard manifest.commits else { return nil }
    return "it is half of a conversation: its source waited for answers, which a file can't give"
  }

  private mutating func take(_ item: StreamItem) {
    switch item {
    case .manifest(let manifest): devices = manifest.devices.map { Device(manifest: $0) }
    case .deviceData(let device, let bytes):
      devices[device].bytes += UInt64(bytes)
      devices[device].frames += 1
    case .initialComplete(let device): devices[device].initialComplete = true
    case .void(let device):
      devices[device].bytes = 0
      devices[device].frames = 0
      devices[device].voids += 1
      devices[device].initialComplete = false
    case .vmmState(let device, let bytes): devices[device].vmmStateBytes = bytes.count
    case .skipped: skippedFrames += 1
    case .deviceEnd, .end, .commit, .initialLoaded, .loaded, .running, .givenUp: break
    }
  }
}
