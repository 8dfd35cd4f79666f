// SPDX-License-Identifier: Apache-2.0
import FuzzTargets
import Glibc
import Synchronization

/// The target that the environment names.
private let target: FuzzTarget = {
  let name = unsafe getenv("VFIO_FERRY_FUZZ_TARGET").map { unsafe String(cString: $0) } ?? ""
  guard let found = FuzzTarget.all.first(where: { $0.name == name }) else {
    say("VFIO_FERRY_FUZZ_TARGET is to be one of \(FuzzTarget.all.map(\.name).joined(separator: ", "))")
    exit(2)
  }
  FuzzTarget.isAlone.store(true, ordering: .relaxed)
  return found
}()

private func say(_ text: String) {
  let bytes = Array("\(text)\n".utf8)
  _ = unsafe write(STDERR_FILENO, bytes, bytes.count)
}

/// What libFuzzer calls with each input.
@c(LLVMFuzzerTestOneInput) public func testOneInput(_ bytes: UnsafePointer<UInt8>?, _ count: Int) -> Int32 {
  let input = unsafe [UInt8](UnsafeBufferPointer(start: bytes, count: count))
  do {
    try target.run(input)
  } catch {
    say("FINDING: \(error)")
    abort()
  }
  return 0
}

#if !LIBFUZZER
  /// libFuzzer brings a main of its own.
  @main struct WithoutFuzzer {
    static func main() {
      say("built without libFuzzer: tools/fuzz builds it with that, and runs it")
      exit(2)
    }
  }
#endif
